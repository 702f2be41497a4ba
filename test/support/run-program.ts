import type { Command } from 'commander';
import type { Cli } from '../../src/commands/cli.ts';
import { buildProgram } from '../../src/commands/program.ts';

/** Runs `banger WORDS…` with a fake in the place of engine and terminal. A usage error throws commander's error. */
export async function runProgram(cli: Cli, words: readonly string[]): Promise<void> {
  const program = await programFor(cli, words);
  quiet(program);
  await program.parseAsync([...words], { from: 'user' });
}

/** The commands that words lead to; without words, all of them. */
export function programFor(cli: Cli, words: readonly string[]): Promise<Command> {
  return buildProgram(
    {
      cli,
      env: { FROM_HERE: 'here' },
      build: { version: '1.2.3', buildId: 'build' },
      program: '/opt/banger',
      doctor: { layout: {} as never, temporaryDirectory: '/tmp' },
      setJson: () => undefined,
    },
    words,
  );
}

function quiet(command: Command): void {
  command.exitOverride().configureOutput({ writeErr: () => undefined, writeOut: () => undefined });
  command.commands.forEach(quiet);
}
