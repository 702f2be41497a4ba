import { Command } from 'commander';
import { vmKill } from '../engine/rpc/vm-methods.ts';
import type { Cli } from './cli.ts';

export function vmKillCommand(cli: Cli): Command {
  return new Command('kill')
    .description('End VMs at once, like pulling the plug; what they have not written is lost')
    .argument('<vm...>', 'names or ids')
    .addHelpText('after', '\nExample:\n  banger vm kill web')
    .action((vms: string[]) =>
      cli.forEach(
        vms,
        (vm) => cli.call(vmKill, { vm }),
        (vm) => vm.name,
      ),
    );
}
