import { Command } from 'commander';
import { vmStart } from '../engine/rpc/vm-methods.ts';
import type { Cli } from './cli.ts';

export function vmStartCommand(cli: Cli): Command {
  return new Command('start')
    .description('Boot stopped VMs')
    .argument('<vm...>', 'names or ids')
    .addHelpText('after', '\nExample:\n  banger vm start web db')
    .action((vms: string[]) =>
      cli.forEach(
        vms,
        (vm) => cli.call(vmStart, { vm }),
        (vm) => vm.name,
      ),
    );
}
