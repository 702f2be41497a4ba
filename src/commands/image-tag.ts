import { Command } from 'commander';
import { imageTag } from '../engine/rpc/image-methods.ts';
import type { Cli } from './cli.ts';
import { readyText } from './image-text.ts';

export function imageTagCommand(cli: Cli): Command {
  return new Command('tag')
    .description('Give an image one more name; an image that had it loses it')
    .argument('<image>', 'name or id')
    .argument('<name>', 'the new name')
    .addHelpText('after', '\nExample:\n  banger image tag app:build app:stable')
    .action(async (reference: string, name: string) => {
      cli.print(await cli.call(imageTag, { reference, name }), readyText);
    });
}
