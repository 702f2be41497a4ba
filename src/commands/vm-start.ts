import { Command } from 'commander';
import { vmStart } from '../engine/rpc/vm-methods.ts';
import type { Cli } from './cli.ts';
import { addVmSelection, forEachVm, type VmSelection } from './vm-selection.ts';

export function vmStartCommand(cli: Cli): Command {
  const command = addVmSelection(new Command('start').description('Boot stopped VMs'));
  return command
    .addHelpText('after', '\nExample:\n  banger vm start web db')
    .action((vms: string[], options: VmSelection) =>
      forEachVm(
        cli,
        { vms, options, command },
        (vm, subject) => cli.call(vmStart, { vm }, subject),
        (vm) => vm.name,
      ),
    );
}
