import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  type Stats,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import {
  type ConvertOptions,
  convertLayers,
  type ConvertResult,
  type LayerSource,
} from '../../../../src/engine/images/layers/layers.ts';
import { type EntrySpec, tarOf } from '../../../support/tar-builder.ts';

/** A directory that is gone when the `using` block ends. */
export function tempDirectory(): Disposable & { readonly path: string } {
  const directory = mkdtempSync(path.join(tmpdir(), 'banger-layers-'));
  return { path: directory, [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }) };
}

/** A layer from bytes, cut into chunks of a size that no structure of a tar fits. */
export function layerOf(data: Buffer, more: Partial<LayerSource> = {}): LayerSource {
  const chunks: Buffer[] = [];
  for (let from = 0; from < data.length; from += 65_521) chunks.push(data.subarray(from, from + 65_521));
  return { open: () => Readable.from(chunks), label: 'test', ...more };
}

/** Converts layers, given as bytes or entries, to `rootfs.ext4` in a directory. */
export async function convert(
  directory: string,
  layers: readonly (Buffer | readonly EntrySpec[] | LayerSource)[],
  more: Partial<ConvertOptions> = {},
): Promise<ConvertResult & { readonly image: string }> {
  const image = path.join(directory, 'rootfs.ext4');
  const result = await convertLayers({
    layers: layers.map((layer) =>
      Buffer.isBuffer(layer) ? layerOf(layer) : 'open' in layer ? layer : layerOf(tarOf(layer)),
    ),
    destination: image,
    workDirectory: path.join(directory, 'work'),
    sizeBytes: 256 * 1024 * 1024,
    seed: 'sha256:test',
    signal: new AbortController().signal,
    ...more,
  });
  return { ...result, image };
}

/** Why layers cannot be converted. Whatever it is, nothing is left. */
export async function failure(
  layers: Parameters<typeof convert>[1],
  more: Partial<ConvertOptions> = {},
): Promise<string> {
  using temp = tempDirectory();
  const error: unknown = await convert(temp.path, layers, more).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (existsSync(path.join(temp.path, 'rootfs.ext4'))) throw new Error('an image is left', { cause: error });
  const left = readdirSync(path.join(temp.path, 'work'));
  if (left.length > 0) throw new Error(`"${left.join('", "')}" is left`, { cause: error });
  return error instanceof Error ? error.message : 'it worked';
}

/** Throws with the output of e2fsck unless it finds nothing at all. */
export function expectClean(image: string): void {
  execFileSync('e2fsck', ['-fn', image], { stdio: 'pipe', encoding: 'utf8' });
}

/** Runs debugfs requests, without root. */
export function debugfs(image: string, request: string): string {
  return execFileSync('debugfs', ['-R', request, image], {
    stdio: 'pipe',
    encoding: 'latin1',
    maxBuffer: 2 ** 26,
  }).trim();
}

/** Names of a directory, without the three that are always there. */
export function list(image: string, directory = '/'): string[] {
  return debugfs(image, `ls -p "${directory}"`)
    .split('\n')
    .map((line) => line.split('/')[5] ?? '')
    .filter((name) => !['', '.', '..', 'lost+found'].includes(name))
    .sort();
}

export function contents(image: string, name: string): string {
  return debugfs(image, `cat "${name}"`);
}

/** Why images cannot be mounted here, or undefined if they can. */
export function mountObstacle(): string | undefined {
  if (process.getuid?.() !== 0) return 'mounting an image needs root';
  try {
    execFileSync('losetup', ['-f'], { stdio: 'pipe' });
    return undefined;
  } catch {
    return 'there are no loop devices';
  }
}

/** Mounts an image and unmounts it when the `using` block ends. */
export function mounted(image: string, options = 'ro'): Disposable & { readonly path: string } {
  const directory = `${image}.mount`;
  mkdirSync(directory, { recursive: true });
  execFileSync('mount', ['-t', 'ext4', '-o', `loop,${options}`, image, directory], { stdio: 'pipe' });
  return {
    path: directory,
    [Symbol.dispose]: () => void execFileSync('umount', [directory], { stdio: 'pipe' }),
  };
}

/** Everything about the files below a directory that Node can see, as one line each; lost+found left out. */
export function describeTree(root: string): Record<string, string> {
  const described: Record<string, string> = {};
  const visit = (relative: string): void => {
    const full = path.join(root, relative);
    const stats = lstatSync(full);
    described[relative] = describeFile(full, stats);
    if (!stats.isDirectory()) return;
    for (const name of readdirSync(full, 'latin1').sort()) {
      if (relative === '.' && name === 'lost+found') continue;
      visit(`${relative}/${name}`);
    }
  };
  visit('.');
  return described;
}

function describeFile(full: string, stats: Stats): string {
  const { mtimeNs } = lstatSync(full, { bigint: true });
  const parts = [stats.mode.toString(8), stats.uid, stats.gid, `mtime ${mtimeNs}`];
  if (!stats.isDirectory()) parts.push(`links ${stats.nlink}`);
  if (stats.isSymbolicLink()) parts.push(readlinkSync(full, 'latin1'));
  if (stats.isFile()) parts.push(stats.size, createHash('sha256').update(readFileSync(full)).digest('hex'));
  if (stats.isCharacterDevice() || stats.isBlockDevice()) parts.push(`device ${stats.rdev}`);
  return parts.join(' ');
}
