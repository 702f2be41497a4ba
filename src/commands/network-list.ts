import { Command } from 'commander';
import { networkList, type NetworkView } from '../engine/rpc/network-methods.ts';
import type { Cli } from './cli.ts';
import { networkKindText } from './network-text.ts';
import { renderTable } from './table.ts';

export function networkListCommand(cli: Cli): Command {
  return new Command('list')
    .alias('ls')
    .description('List networks')
    .option('-q, --quiet', 'names only')
    .addHelpText('after', '\nExample:\n  banger network list')
    .action(async (options: { readonly quiet?: boolean }) => {
      const networks = await cli.call(networkList, {});
      cli.print(networks, () =>
        options.quiet ? networks.map(({ name }) => name).join('\n') : listText(networks),
      );
    });
}

function listText(networks: readonly NetworkView[]): string {
  return renderTable(
    ['NETWORK', 'KIND', 'SUBNET', 'VMS'],
    networks.map((network) => [
      network.name,
      networkKindText(network),
      network.subnet ?? '',
      network.vms.map(({ name }) => name).join(', '),
    ]),
  );
}
