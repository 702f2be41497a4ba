import { Command } from 'commander';
import { vmKill } from '../engine/rpc/vm-methods.ts';
import type { Cli } from './cli.ts';
import { addVmSelection, forEachVm, type VmSelection } from './vm-selection.ts';

export function vmKillCommand(cli: Cli): Command {
  const command = addVmSelection(
    new Command('kill').description(
      'End VMs at once, like pulling the plug; what they have not written is lost',
    ),
  );
  return command
    .addHelpText('after', '\nExample:\n  banger vm kill web')
    .action((vms: string[], options: VmSelection) =>
      forEachVm(
        cli,
        { vms, options, command },
        (vm) => cli.call(vmKill, { vm }),
        (vm) => vm.name,
      ),
    );
}
