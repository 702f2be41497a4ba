import { Command } from 'commander';
import { imageDelete } from '../engine/rpc/image-methods.ts';
import type { ResultOf } from '../engine/rpc/method.ts';
import type { Cli } from './cli.ts';
import { shortIdLength } from './image-text.ts';
import { printable } from '../printable.ts';

export function imageDeleteCommand(cli: Cli): Command {
  return new Command('delete')
    .alias('rm')
    .description('Delete images; one that has other names only loses the name given')
    .argument('<image...>', 'names or ids')
    .addHelpText('after', '\nExample:\n  banger image delete ubuntu:22.04')
    .action((references: string[]) =>
      cli.forEach(references, (reference) => cli.call(imageDelete, { reference }), deletedText),
    );
}

function deletedText({ untagged, deleted }: ResultOf<typeof imageDelete>): string {
  const lines = untagged.map((name) => `Untagged ${printable(name)}`);
  if (deleted !== null) lines.push(`Deleted ${deleted.slice(0, shortIdLength)}`);
  return lines.join('\n');
}
