import { Command, Option } from 'commander';
import { imageList, type ImageView } from '../engine/rpc/image-methods.ts';
import { formatBytes } from '../state/units.ts';
import type { Cli } from './cli.ts';
import { noName, shortIdLength, shortName } from './image-text.ts';
import { renderTable } from './table.ts';

/** Characters of the column that says what system an image is */
const maxOsLength = 40;

export function imageListCommand(cli: Cli): Command {
  return (
    new Command('list')
      .alias('ls')
      .description('List the images on this host')
      .option('-q, --quiet', 'print ids only')
      // As docker has it: here nothing is left out without.
      .addOption(new Option('-a, --all', 'list all images, which is done anyway').hideHelp())
      .addHelpText('after', '\nExample:\n  banger image list')
      .action(async (options: { readonly quiet?: boolean }) => {
        const images = await cli.call(imageList, {});
        cli.print(images, options.quiet ? idsText : listText);
      })
  );
}

function listText(images: readonly ImageView[]): string {
  return renderTable(['IMAGE', 'ID', 'OS', 'SIZE', 'CREATED', 'USED BY'], images.flatMap(rowsOf));
}

/** A row for each name, the first of which has what is told of the image. */
function rowsOf(image: ImageView): string[][] {
  const id = image.id.slice(0, shortIdLength);
  const [first = noName, ...others] = image.names.map(shortName);
  return [
    [
      first,
      id,
      // Without the name of the release, which `image show` has: `Debian GNU/Linux 12 (bookworm)`.
      shortened(image.os.replace(/ \([^()]*\)$/, '')),
      formatBytes(image.contentBytes),
      image.createdAt.slice(0, 16).replace('T', ' '),
      image.usedBy.join(', '),
    ],
    ...others.map((name) => [name, id, '', '', '', '']),
  ];
}

/** Whoever made the image chose the words. */
function shortened(name: string): string {
  return name.length > maxOsLength ? `${name.slice(0, maxOsLength - 1)}…` : name;
}

function idsText(images: readonly ImageView[]): string {
  return images.map((image) => image.id.slice(0, shortIdLength)).join('\n');
}
