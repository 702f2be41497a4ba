import { Command } from 'commander';
import { kernelSetDefault } from '../engine/rpc/kernel-methods.ts';
import type { Cli } from './cli.ts';
import { kernelReadyText } from './kernel-text.ts';

export function kernelSetDefaultCommand(cli: Cli): Command {
  return new Command('set-default')
    .description('Choose the kernel of new VMs that name none')
    .argument('<kernel>', 'name or id; "embedded" is the one inside banger')
    .addHelpText(
      'after',
      '\nVMs that exist keep the kernel they were made with.\n\nExample:\n  banger kernel set-default embedded',
    )
    .action(async (reference: string) => {
      cli.print(await cli.call(kernelSetDefault, { reference }), kernelReadyText);
    });
}
