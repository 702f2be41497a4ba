import { Command } from 'commander';
import { vmDelete } from '../engine/rpc/vm-methods.ts';
import type { Cli } from './cli.ts';
import { addVmSelection, forEachVm, type VmSelection } from './vm-selection.ts';

export function vmDeleteCommand(cli: Cli): Command {
  const command = addVmSelection(
    new Command('delete')
      .alias('rm')
      .description('Delete VMs with their disks; running ones are ended first'),
  );
  return command
    .addHelpText('after', '\nExample:\n  banger vm delete web')
    .action((vms: string[], options: VmSelection) =>
      forEachVm(
        cli,
        { vms, options, command },
        (vm) => cli.call(vmDelete, { vm }),
        (vm) => vm.name,
      ),
    );
}
