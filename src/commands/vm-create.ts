import { Command } from 'commander';
import { vmCreate } from '../engine/rpc/vm-methods.ts';
import type { Cli } from './cli.ts';
import { printDetached } from './operation-text.ts';
import { addVmSpecOptions, vmSpecParams, type VmSpecOptions } from './vm-options.ts';
import { sizeText, stagesText } from './vm-text.ts';

export function vmCreateCommand(cli: Cli): Command {
  return addVmSpecOptions(new Command('create').description('Create a VM from an image and boot it'), cli.cwd)
    .option('--no-start', 'create it only')
    .option('--detach', 'return at once with the id of the operation, which goes on')
    .addHelpText('after', '\nExample:\n  banger vm create --name web --image ubuntu --cpus 2 --memory 2G')
    .action(async (options: VmSpecOptions & { start: boolean; detach?: boolean }) => {
      const params = { ...vmSpecParams(options), start: options.start };
      if (options.detach) return printDetached(cli, await cli.detach(vmCreate, params));
      const vm = await cli.call(vmCreate, params);
      const stages = stagesText(vm.stages);
      cli.say(`${vm.name}: ${vm.state}, ${sizeText(vm)}${stages && ` (${stages})`}`);
      cli.print(vm, () => vm.name);
    });
}
