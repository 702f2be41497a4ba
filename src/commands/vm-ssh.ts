import { constants } from 'node:os';
import { Command } from 'commander';
import { vmExec } from '../engine/rpc/vm-methods.ts';
import { exitCodeOf } from './attach.ts';
import type { Cli } from './cli.ts';
import { refuseLateOptions } from './vm-exec.ts';
import { addLendOptions, readLendOptions, type LendOptions } from './secret-options.ts';
import { addLabelFilter, chooseVm, labelsOf, type VmSelection } from './vm-selection.ts';

const help = `
Examples:
  banger vm ssh web
  banger vm ssh web -- 'ps aux | grep node'     one command line; banger vm exec takes words as they are`;

export function vmSshCommand(cli: Cli, env: Readonly<Record<string, string | undefined>>): Command {
  const command = new Command('ssh')
    .alias('shell')
    .description('Open a shell in a running VM, or run a command line in one')
    .argument('[vm]', 'name or id; left out with --label')
    .argument('[command...]', 'as for ssh, words that a shell reads; put -- before them')
    .passThroughOptions()
    .option('-u, --user <user>', 'user in the guest (default: root)')
    .option('-t, --tty', 'as for ssh; a command has a terminal whenever you have')
    .addHelpText('after', help);
  return addLabelFilter(addLendOptions(command)).action(
    async (
      first: string | undefined,
      rest: string[],
      options: { user?: string } & VmSelection & LendOptions,
    ) => {
      const isByLabel = labelsOf(options).length > 0;
      const given = isByLabel && first !== undefined ? [first, ...rest] : rest;
      refuseLateOptions('ssh', isByLabel ? undefined : first, given);
      const words = given[0] === '--' ? given.slice(1) : given;
      const lent = await readLendOptions(cli, options, env);
      const vm = await chooseVm(cli, { vm: isByLabel ? undefined : first, options, command });
      const exit = await cli.attach(vmExec, {
        vm,
        ...(words.length === 0
          ? { user: options.user }
          : { user: options.user ?? 'root', argv: ['/bin/sh', '-c', words.join(' ')] }),
        ...lent,
        terminal: cli.programTerminal(),
      });
      cli.exitWith(exitCodeOf(exit, constants.signals));
      if (words.length === 0 && cli.programTerminal())
        cli.say(`VM ${vm} goes on running. Stop it with: banger vm stop ${vm}`);
    },
  );
}
