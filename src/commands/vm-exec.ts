import { constants } from 'node:os';
import { Command } from 'commander';
import { vmExec } from '../engine/rpc/vm-methods.ts';
import { shellQuote } from '../host/shell-quote.ts';
import { exitCodeOf } from './attach.ts';
import type { Cli } from './cli.ts';
import { addEnvOptions, readEnvOptions, type EnvOptions } from './env-options.ts';
import { addLendOptions, readLendOptions, type LendOptions } from './secret-options.ts';
import { UsageError } from './usage-error.ts';
import { addLabelFilter, chooseVm, labelsOf, type VmSelection } from './vm-selection.ts';

interface ExecOptions extends EnvOptions, LendOptions {
  readonly workdir?: string;
  readonly user?: string;
}

const help = `
Examples:
  banger vm exec web -- uname -a
  banger vm exec --env-file .env -e TOKEN web -- ./deploy     TOKEN as it is set here
  banger vm exec --secret NPM_TOKEN --ssh-agent web -- ./publish`;

export function vmExecCommand(cli: Cli, env: Readonly<Record<string, string | undefined>>): Command {
  const command = new Command('exec')
    .description("Run a command in a running VM; its exit code is banger's")
    .argument('[vm]', 'name or id; left out with --label')
    .argument('[command...]', 'program and arguments; put -- before them')
    .passThroughOptions()
    .option(
      '-w, --workdir <dir>',
      'directory in the guest (default: the workspace, else what the image says)',
    )
    .option('-u, --user <user>', "user in the guest (default: the image's; root when the VM has a workspace)")
    .option('-i, --interactive', 'as for docker; input always reaches the command')
    .option('-t, --tty', 'as for docker; the command has a terminal whenever you have')
    .addHelpText('after', help);
  addLendOptions(addEnvOptions(command));
  return addLabelFilter(command).action(
    async (first: string | undefined, rest: string[], options: ExecOptions & VmSelection) => {
      const isByLabel = labelsOf(options).length > 0;
      const words = isByLabel && first !== undefined ? [first, ...rest] : rest;
      refuseLateOptions('exec', isByLabel ? undefined : first, words);
      const argv = words[0] === '--' ? words.slice(1) : words;
      const variables = await readEnvOptions(options, { own: env, cwd: cli.cwd });
      const lent = await readLendOptions(cli, options, env);
      const vm = await chooseVm(cli, { vm: isByLabel ? undefined : first, options, command });
      if (argv.length === 0) {
        command.error("error: missing required argument 'command'", {
          code: 'commander.missingArgument',
          exitCode: 2,
        });
      }
      const exit = await cli.attach(vmExec, {
        vm,
        argv,
        env: variables,
        ...lent,
        workingDirectory: options.workdir,
        user: options.user,
        terminal: cli.programTerminal(),
      });
      cli.exitWith(exitCodeOf(exit, constants.signals));
    },
  );
}

/** What comes after the VM is the command, as for docker. No program is called like an option. */
export function refuseLateOptions(
  verb: 'exec' | 'ssh',
  vm: string | undefined,
  words: readonly string[],
): void {
  const [word] = words;
  if (vm === undefined || word === undefined || !word.startsWith('-') || word === '--') return;
  const end = words.indexOf('--');
  const [late, rest] = end < 0 ? [[word], ['COMMAND']] : [words.slice(0, end), words.slice(end + 1)];
  throw new UsageError(
    `"${word}" comes after the VM, where the command begins`,
    `Put options before the VM: banger vm ${verb} ${shellQuote(late)} ${vm} -- ${shellQuote(rest)}`,
  );
}
