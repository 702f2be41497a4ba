import { Command } from 'commander';
import { networkCreate } from '../engine/rpc/network-methods.ts';
import type { Cli } from './cli.ts';
import { parseVmName } from './parse.ts';

export function networkCreateCommand(cli: Cli): Command {
  return new Command('create')
    .description('Make a network whose VMs reach each other, and no others')
    .argument('<name>', 'name of the new network', parseVmName)
    .addHelpText(
      'after',
      '\nExample:\n  banger network create lab\n  banger vm create --name db --network lab\n  banger vm create --name web --network lab',
    )
    .action(async (name: string) => {
      const network = await cli.call(networkCreate, { name });
      cli.print(network, () => network.name);
      cli.say(`${network.subnet}: use it with: banger vm create --network ${network.name}`);
    });
}
