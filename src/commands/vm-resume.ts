import { Command } from 'commander';
import { vmResume } from '../engine/rpc/vm-control-methods.ts';
import type { Cli } from './cli.ts';
import { addVmSelection, forEachVm, type VmSelection } from './vm-selection.ts';

export function vmResumeCommand(cli: Cli): Command {
  const command = addVmSelection(
    new Command('resume').alias('unpause').description('Let paused VMs go on, with the time of the host'),
  );
  return command
    .addHelpText('after', '\nExample:\n  banger vm resume web')
    .action((vms: string[], options: VmSelection) =>
      forEachVm(
        cli,
        { vms, options, command },
        (vm, subject) => cli.call(vmResume, { vm }, subject),
        (vm) => vm.name,
      ),
    );
}
