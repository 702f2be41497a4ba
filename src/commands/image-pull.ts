import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { Command } from 'commander';
import { imagePullBundle } from '../engine/rpc/image-bundle-methods.ts';
import { imagePull, type ImageView } from '../engine/rpc/image-methods.ts';
import type { Cli } from './cli.ts';
import { readyText } from './image-text.ts';
import { detachEach } from './operation-text.ts';
import { UsageError } from './usage-error.ts';

interface PullOptions {
  readonly sha256?: string;
  readonly name?: string;
  readonly detach?: boolean;
}

const help = `
A path that begins with ./, ../ or /, or an address (https://…), is a bundle, as banger image bundle writes it. One from
a server needs its hash, in the address or beside it: what arrives is used only if it has that hash.

Examples:
  banger image pull ubuntu:24.04
  banger image pull ubuntu debian --detach
  banger image pull ./app.tar.zst --name app
  banger image pull https://files.example/app.tar.zst#sha256=0123…`;

export function imagePullCommand(cli: Cli): Command {
  return new Command('pull')
    .description('Fetch images from a registry and make them bootable, or take them from bundles')
    .argument('<image...>', 'references such as ubuntu, ghcr.io/owner/name:tag or name@sha256:…, or bundles')
    .option('--sha256 <hex>', 'hash of the bundle')
    .option('--name <name>', 'name of the image in the bundle (default: the one it brings)')
    .option('--detach', 'return at once with the ids of operations, which go on')
    .addHelpText('after', help)
    .action((references: string[], options: PullOptions) => {
      checkOptions(references, options);
      for (const reference of references) refuseFileName(cli, reference);
      if (options.detach) return detachEach(cli, references, (reference) => detach(cli, reference, options));
      return cli.forEach(references, (reference) => pull(cli, reference, options), readyText);
    });
}

function pull(cli: Cli, reference: string, options: PullOptions): Promise<ImageView> {
  if (!isBundle(reference)) return cli.call(imagePull, { reference });
  return cli.call(imagePullBundle, bundleParams(cli, reference, options));
}

function detach(cli: Cli, reference: string, options: PullOptions): Promise<string> {
  if (!isBundle(reference)) return cli.detach(imagePull, { reference });
  return cli.detach(imagePullBundle, bundleParams(cli, reference, options));
}

function bundleParams(cli: Cli, reference: string, { sha256, name }: PullOptions) {
  return { source: isAddress(reference) ? reference : resolve(cli.cwd, reference), sha256, name };
}

function checkOptions(references: readonly string[], { sha256, name }: PullOptions): void {
  if (sha256 === undefined && name === undefined) return;
  const [only] = references;
  const option = name === undefined ? '--sha256' : '--name';
  if (references.length > 1)
    throw new UsageError(`${option} is about one bundle`, 'Pull the others with a command of their own');
  if (only !== undefined && !isBundle(only))
    throw new UsageError(
      `${option} is for bundles, and "${only}" is a reference`,
      name === undefined
        ? `A reference has its hash behind an @: ${only.replace(/@.*/, '')}@sha256:HEX`
        : `Give an image another name with: banger image tag ${only} ${name}`,
    );
  if (sha256 !== undefined && !/^[0-9a-f]{64}$/i.test(sha256))
    throw new UsageError(`"${sha256}" is not a SHA-256 of 64 hex digits`, 'Get it with: sha256sum FILE');
}

/** What takes a file, by how its name ends. */
const takers: readonly (readonly [RegExp, (file: string) => string])[] = [
  [/\.(?:zst|tzst|bundle)$/, (file) => `banger image pull ./${file}`],
  [/\.(?:tar|tgz|txz|tar\.gz|tar\.xz)$/, (file) => `banger image import ${file}`],
  [/\.(?:ext4|img)$/, (file) => `banger image register ${file} --name NAME`],
];

/**
 * The name of a file here is a reference, too: who forgot the `./` would wait for a registry that has no such image.
 * What could well be one, such as `debian`, is taken for one.
 */
function refuseFileName(cli: Cli, reference: string): void {
  const taker = takers.find(([ending]) => ending.test(reference))?.[1];
  if (!taker || isBundle(reference) || !existsSync(resolve(cli.cwd, reference))) return;
  throw new UsageError(
    `"${reference}" is a file here, and without ./ in front it is the name of an image in a registry`,
    `To take the file: ${taker(reference)}`,
  );
}

/** As a shell user tells a file from a name. No reference begins with a dot or a slash. */
function isBundle(text: string): boolean {
  return /^\.{0,2}\//.test(text) || isAddress(text);
}

function isAddress(text: string): boolean {
  return /^https?:\/\//i.test(text);
}
