import { Command } from 'commander';
import { imageRename } from '../engine/rpc/image-methods.ts';
import type { Cli } from './cli.ts';
import { readyText } from './image-text.ts';

export function imageRenameCommand(cli: Cli): Command {
  return new Command('rename')
    .alias('mv')
    .description('Replace a name of an image by another')
    .argument('<image>', 'the name it has')
    .argument('<name>', 'the new name')
    .addHelpText('after', '\nExample:\n  banger image rename imported team/app:1')
    .action(async (reference: string, name: string) => {
      cli.print(await cli.call(imageRename, { reference, name }), readyText);
    });
}
