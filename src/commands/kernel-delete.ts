import { Command } from 'commander';
import { kernelDelete } from '../engine/rpc/kernel-methods.ts';
import type { ResultOf } from '../engine/rpc/method.ts';
import type { Cli } from './cli.ts';
import { shortKernelId } from './kernel-text.ts';
import { printable } from '../printable.ts';

export function kernelDeleteCommand(cli: Cli): Command {
  return new Command('delete')
    .alias('rm')
    .description('Delete kernels that no VM uses; one that has other names only loses the name given')
    .argument('<kernel...>', 'names or ids')
    .addHelpText('after', '\nExample:\n  banger kernel delete 6.1.0-56-cloud-amd64')
    .action((references: string[]) =>
      cli.forEach(references, (reference) => cli.call(kernelDelete, { reference }), deletedText),
    );
}

function deletedText({ untagged, deleted }: ResultOf<typeof kernelDelete>): string {
  const lines = untagged.map((name) => `Untagged ${printable(name)}`);
  if (deleted !== null) lines.push(`Deleted ${deleted.slice(0, shortKernelId)}`);
  return lines.join('\n');
}
