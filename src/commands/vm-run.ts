import { constants } from 'node:os';
import { resolve } from 'node:path';
import { Command } from 'commander';
import { runSummary, vmRun } from '../engine/rpc/vm-methods.ts';
import { exitCodeOf } from './attach.ts';
import type { Cli } from './cli.ts';
import { collectEnv } from './parse.ts';
import { UsageError } from './usage-error.ts';
import { addVmSpecOptions, vmSpecParams, type VmSpecOptions } from './vm-options.ts';
import { stagesText } from './vm-text.ts';

interface RunOptions extends VmSpecOptions {
  readonly rm?: boolean;
  readonly keep?: boolean;
  readonly env?: Record<string, string>;
  readonly workdir?: string;
  readonly entrypoint?: boolean;
  readonly user?: string;
  readonly includeUntracked?: boolean;
}

const help = `
The VM is deleted afterwards when a command was given and no --name; otherwise it stays.
What the command changed in the working tree is saved as a patch before a VM is deleted.

Examples:
  banger vm run . -- npm test            one command in this working tree
  banger vm run --image alpine           a shell in a new VM
  banger vm run --image app --entrypoint what the image is made to run
  banger vm run . --keep -- make         keep the VM to look around`;

export function vmRunCommand(cli: Cli, env: Readonly<Record<string, string | undefined>>): Command {
  const command = addVmSpecOptions(
    new Command('run').description(
      'Create a VM, send a git working tree into it, and run a command or a shell there',
    ),
  );
  return command
    .argument('[path]', 'git working tree to send')
    .argument('[command...]', 'program and arguments, after --; a shell when there is none')
    .option('--rm', 'delete the VM afterwards, even one with a name or a shell')
    .option('--keep', 'keep the VM')
    .option(
      '-e, --env <NAME=value>',
      'set a variable; NAME alone takes it from here (repeatable)',
      collectEnv(env),
    )
    .option('-w, --workdir <dir>', 'directory in the guest (default: the working tree)')
    .option(
      '-u, --user <user>',
      "user in the guest (default: the image's; root with a working tree or a shell)",
    )
    .option('--entrypoint', "run the image's own program; what follows -- are its arguments")
    .option('--include-untracked', 'send untracked files too; ignored ones stay')
    .addHelpText('after', help)
    .action(async (path: string | undefined, argv: string[], options: RunOptions) => {
      const words = splitWords(command, path, argv);
      await runInNewVm(cli, words, options);
    });
}

interface RunWords {
  readonly path?: string;
  readonly argv?: readonly string[];
}

/**
 * `run -- cmd` has no path: commander counts words without looking at `--`, so the raw arguments tell. A path
 * stands before `--`, a command after it; `run . make` without `--` is a slip, and refused.
 */
function splitWords(command: Command, path: string | undefined, argv: readonly string[]): RunWords {
  const raw = rawArguments(command);
  const dashes = raw.indexOf('--');
  const after = dashes < 0 ? [] : raw.slice(dashes + 1);
  const words = path === undefined ? [] : [path, ...argv];
  const before = words.slice(0, words.length - after.length);
  if (before.length > 1) {
    throw new UsageError(
      `"${before[1]}" is one word too many before --`,
      `Put -- before the command: banger vm run ${before[0]} -- ${before.slice(1).join(' ')}`,
    );
  }
  return { path: before[0], argv: after.length === 0 ? undefined : after };
}

function rawArguments(command: Command): readonly string[] {
  let root: Command = command;
  while (root.parent) root = root.parent;
  return (root as Command & { rawArgs: readonly string[] }).rawArgs;
}

async function runInNewVm(cli: Cli, words: RunWords, options: RunOptions): Promise<void> {
  if (options.rm && options.keep) {
    throw new UsageError('--rm and --keep contradict each other', 'Give one of them');
  }
  const runsProgram = words.argv !== undefined || options.entrypoint === true;
  const isThrowAway = runsProgram && options.name === undefined;
  const remove = options.rm ?? (options.keep ? false : isThrowAway);
  const exit = await cli.attach(vmRun, {
    ...vmSpecParams(options),
    path: words.path === undefined ? undefined : resolve(cli.cwd, words.path),
    argv: words.argv === undefined ? undefined : [...words.argv],
    env: options.env ?? {},
    workingDirectory: options.workdir,
    user: options.user,
    entrypoint: options.entrypoint ?? false,
    includeUntracked: options.includeUntracked ?? false,
    terminal: cli.programTerminal(),
    remove,
  });
  const exitCode = exitCodeOf(exit, constants.signals);
  cli.exitWith(exitCode);
  const summary = runSummary.parse(exit);
  if (cli.json) return cli.print({ ...summary, exitCode }, () => '');
  cli.say(`${summary.vm}: ${stagesText(summary.stages)}`);
  if (summary.patch) {
    const { path, files, warnings } = summary.patch;
    for (const warning of warnings) cli.say(`warning: ${warning}`);
    cli.say(
      `${files} file${files === 1 ? '' : 's'} changed in the guest. Look: less ${path}; take over: git apply ${path}`,
    );
  }
  if (!summary.removed) {
    cli.say(
      `VM ${summary.vm} goes on running. Enter it: banger vm ssh ${summary.vm}; delete it: banger vm delete ${summary.vm}`,
    );
  }
}
