import { Command } from 'commander';
import { imageCatalog } from '../engine/rpc/image-methods.ts';
import type { ResultOf } from '../engine/rpc/method.ts';
import type { Cli } from './cli.ts';
import { renderTable } from './table.ts';

const help = `
A short name may be followed by a tag: ubuntu:22.04. Names that are not listed mean what they mean to docker.
Your own go into the configuration:
  [catalog]
  app = "ghcr.io/team/app:stable"

Example:
  banger vm run --image rocky`;

export function imageCatalogCommand(cli: Cli): Command {
  return new Command('catalog')
    .description('List the short names of images, and what they stand for')
    .addHelpText('after', help)
    .action(async () => {
      cli.print(await cli.call(imageCatalog, {}), catalogText);
    });
}

function catalogText(entries: ResultOf<typeof imageCatalog>): string {
  const rows = entries.map((entry) => [
    entry.name,
    entry.reference,
    entry.isPresent ? 'yes' : '',
    entry.description || '(your own)',
  ]);
  return renderTable(['NAME', 'REFERENCE', 'HERE', 'ABOUT'], rows);
}
