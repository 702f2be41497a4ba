import { constants } from 'node:os';
import { Command } from 'commander';
import { vmExec } from '../engine/rpc/vm-methods.ts';
import { exitCodeOf } from './attach.ts';
import type { Cli } from './cli.ts';
import { addLendOptions, readLendOptions, type LendOptions } from './secret-options.ts';
import { addLabelFilter, chooseVm, type VmSelection } from './vm-selection.ts';

export function vmSshCommand(cli: Cli, env: Readonly<Record<string, string | undefined>>): Command {
  const command = new Command('ssh')
    .alias('shell')
    .description('Open a shell in a running VM')
    .argument('[vm]', 'name or id; left out with --label')
    .option('-u, --user <user>', 'user in the guest (default: root)')
    .addHelpText('after', '\nExample:\n  banger vm ssh web');
  return addLabelFilter(addLendOptions(command)).action(
    async (name: string | undefined, options: { user?: string } & VmSelection & LendOptions) => {
      const lent = await readLendOptions(cli, options, env);
      const vm = await chooseVm(cli, { vm: name, options, command });
      const exit = await cli.attach(vmExec, {
        vm,
        user: options.user,
        ...lent,
        terminal: cli.programTerminal(),
      });
      cli.exitWith(exitCodeOf(exit, constants.signals));
      if (cli.programTerminal()) cli.say(`VM ${vm} goes on running. Stop it with: banger vm stop ${vm}`);
    },
  );
}
