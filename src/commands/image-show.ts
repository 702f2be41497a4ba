import { Command } from 'commander';
import { imageShow, type ImageDetails } from '../engine/rpc/image-methods.ts';
import { formatBytes } from '../state/units.ts';
import type { Cli } from './cli.ts';
import { imageName } from './image-text.ts';
import { printable } from '../printable.ts';

/** An image decides how many of these it has; what people read ends. */
const maxLines = 300;

export function imageShowCommand(cli: Cli): Command {
  return new Command('show')
    .alias('inspect')
    .description('Show what is known of images')
    .argument('<image...>', 'names or ids')
    .addHelpText('after', '\nExample:\n  banger image show ubuntu --json')
    .action((references: string[]) =>
      cli.forEach(references, (reference) => cli.call(imageShow, { reference }), detailsText),
    );
}

function detailsText(image: ImageDetails): string {
  const { config } = image;
  const lines: readonly (readonly [string, string | undefined])[] = [
    ['Image', imageName(image)],
    ['Id', image.id],
    ['Source', image.source],
    ['File', image.path],
    ...digestLines(image),
    ['OS', image.os || undefined],
    ['Content', formatBytes(image.contentBytes)],
    ['Filesystem', formatBytes(image.sizeBytes)],
    ['Shell', image.hasShell ? 'yes' : 'no'],
    ['Created', image.createdAt],
    ['Used by', image.usedBy.join(', ') || undefined],
    ['User', config.user],
    ['Directory', config.workingDirectory],
    ['Entrypoint', config.entrypoint && JSON.stringify(config.entrypoint)],
    ['Command', config.command && JSON.stringify(config.command)],
    ...someOf('Env', config.env),
    ...someOf('Layer', image.layers.map(layerText)),
  ];
  const width = lines.reduce((most, [label]) => Math.max(most, label.length), 0) + 2;
  return lines
    .filter(([, value]) => value !== undefined)
    .map(([label, value]) => `${`${label}:`.padEnd(width)}${printable(value ?? '')}`)
    .join('\n');
}

function someOf(label: string, values: readonly string[]): (readonly [string, string])[] {
  const lines = values.slice(0, maxLines).map((value) => [label, value] as const);
  const more = values.length - lines.length;
  return more === 0 ? lines : [...lines, [label, `… and ${more} more, which --json shows`]];
}

/** One for all names, or each with those that have it. */
function digestLines({ digest, digests }: ImageDetails): [string, string | undefined][] {
  const all = [...new Set(Object.values(digests))];
  if (all.length < 2) return [['Digest', digest]];
  const names = (wanted: string): string[] => Object.keys(digests).filter((name) => digests[name] === wanted);
  return all.map((each) => ['Digest', `${each} (${names(each).join(', ')})`]);
}

function layerText({ digest, sizeBytes, isCached }: ImageDetails['layers'][number]): string {
  const size = sizeBytes === undefined ? '' : ` ${formatBytes(sizeBytes)}`;
  return `${digest}${size}${isCached ? ' (cached)' : ''}`;
}
