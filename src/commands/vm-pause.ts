import { Command } from 'commander';
import { vmPause } from '../engine/rpc/vm-control-methods.ts';
import type { Cli } from './cli.ts';
import { addVmSelection, forEachVm, type VmSelection } from './vm-selection.ts';

export function vmPauseCommand(cli: Cli): Command {
  const command = addVmSelection(
    new Command('pause').description('Make running VMs stand still, keeping their memory'),
  );
  return command
    .addHelpText('after', '\nExample:\n  banger vm pause web')
    .action((vms: string[], options: VmSelection) =>
      forEachVm(
        cli,
        { vms, options, command },
        (vm, subject) => cli.call(vmPause, { vm }, subject),
        (vm) => vm.name,
      ),
    );
}
