import { Command } from 'commander';
import { networkShow } from '../engine/rpc/network-methods.ts';
import type { Cli } from './cli.ts';
import { networkText } from './network-text.ts';

export function networkShowCommand(cli: Cli): Command {
  return new Command('show')
    .description('Show networks, and which VM has which address')
    .argument('<network...>', 'names')
    .addHelpText('after', '\nExample:\n  banger network show bridge')
    .action((names: string[]) => cli.forEach(names, (name) => cli.call(networkShow, { name }), networkText));
}
