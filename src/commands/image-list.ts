import { Command } from 'commander';
import { imageList, type ImageView } from '../engine/rpc/image-methods.ts';
import { formatBytes } from '../state/units.ts';
import type { Cli } from './cli.ts';
import { imageName, shortIdLength } from './image-text.ts';
import { renderTable } from './table.ts';

export function imageListCommand(cli: Cli): Command {
  return new Command('list')
    .alias('ls')
    .description('List the images on this host')
    .option('-q, --quiet', 'print ids only')
    .addHelpText('after', '\nExample:\n  banger image list')
    .action(async (options: { readonly quiet?: boolean }) => {
      const images = await cli.call(imageList, {});
      cli.print(images, options.quiet ? idsText : listText);
    });
}

function listText(images: readonly ImageView[]): string {
  const rows = images.map((image) => [
    imageName(image),
    image.id.slice(0, shortIdLength),
    image.os,
    formatBytes(image.contentBytes),
    image.createdAt.slice(0, 16).replace('T', ' '),
    image.usedBy.join(', '),
  ]);
  return renderTable(['IMAGE', 'ID', 'OS', 'SIZE', 'CREATED', 'USED BY'], rows);
}

function idsText(images: readonly ImageView[]): string {
  return images.map((image) => image.id.slice(0, shortIdLength)).join('\n');
}
