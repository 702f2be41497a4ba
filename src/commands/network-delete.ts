import { Command } from 'commander';
import { networkDelete } from '../engine/rpc/network-methods.ts';
import type { Cli } from './cli.ts';

export function networkDeleteCommand(cli: Cli): Command {
  return new Command('delete')
    .alias('rm')
    .description('Delete networks that no VM is on')
    .argument('<network...>', 'names')
    .addHelpText('after', '\nExample:\n  banger network delete lab')
    .action((names: string[]) =>
      cli.forEach(
        names,
        (name) => cli.call(networkDelete, { name }),
        (deleted) => deleted.name,
      ),
    );
}
