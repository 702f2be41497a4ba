import { Command } from 'commander';
import { vmDelete } from '../engine/rpc/vm-methods.ts';
import type { Cli } from './cli.ts';

export function vmDeleteCommand(cli: Cli): Command {
  return new Command('delete')
    .alias('rm')
    .description('Delete VMs with their disks; running ones are ended first')
    .argument('<vm...>', 'names or ids')
    .addHelpText('after', '\nExample:\n  banger vm delete web')
    .action((vms: string[]) =>
      cli.forEach(
        vms,
        (vm) => cli.call(vmDelete, { vm }),
        (vm) => vm.name,
      ),
    );
}
