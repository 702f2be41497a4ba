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
    .option('-f, --force', 'do not fail because of VMs that there are not')
    .addHelpText('after', '\nExamples:\n  banger vm delete web\n  banger vm delete --force web db')
    .action((vms: string[], options: VmSelection & { readonly force?: boolean }) =>
      forEachVm(
        cli,
        { vms, options, command },
        (vm, subject) => cli.call(vmDelete, { vm }, subject),
        (vm) => vm.name,
        { isMissingFine: options.force },
      ),
    );
}
