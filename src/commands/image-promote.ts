import { Command } from 'commander';
import { imagePromote } from '../engine/rpc/image-methods.ts';
import type { Cli } from './cli.ts';
import { readyText } from './image-text.ts';

export function imagePromoteCommand(cli: Cli): Command {
  return new Command('promote')
    .description('Copy registered images to where banger keeps its own; your files stay')
    .argument('<image...>', 'names or ids')
    .addHelpText('after', '\nExample:\n  banger image promote mine')
    .action((references: string[]) =>
      cli.forEach(references, (reference) => cli.call(imagePromote, { reference }), readyText),
    );
}
