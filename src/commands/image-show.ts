import { Command } from 'commander';
import { imageShow, type ImageDetails } from '../engine/rpc/image-methods.ts';
import { formatBytes } from '../state/units.ts';
import type { Cli } from './cli.ts';
import { imageName } from './image-text.ts';
import { printable } from '../printable.ts';

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
    ['Digest', image.digest],
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
    ...config.env.map((variable) => ['Env', variable] as const),
    ...image.layers.map((layer) => ['Layer', layerText(layer)] as const),
  ];
  const width = Math.max(...lines.map(([label]) => label.length)) + 2;
  return lines
    .filter(([, value]) => value !== undefined)
    .map(([label, value]) => `${`${label}:`.padEnd(width)}${printable(value ?? '')}`)
    .join('\n');
}

function layerText({ digest, sizeBytes, isCached }: ImageDetails['layers'][number]): string {
  const size = sizeBytes === undefined ? '' : ` ${formatBytes(sizeBytes)}`;
  return `${digest}${size}${isCached ? ' (cached)' : ''}`;
}
