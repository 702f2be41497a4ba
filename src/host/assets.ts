import {
  closeSync,
  createReadStream,
  openSync,
  readFileSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { getAsset, isSea } from 'node:sea';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { BangerError } from '../errors.ts';
import { attachmentsOf, ownExecutable } from './attachments.ts';

/** What the binary carries, by file name. Names ending in `.zst` are stored compressed. */
export const assetNames = [
  'better_sqlite3.node',
  'vmlinux.zst',
  'modules.cpio',
  'toolbox.cpio.zst',
  'base.tar.zst',
  'git-toolbox.tar.zst',
  'manifest.json',
] as const;

export type AssetName = (typeof assetNames)[number];

/** The files embedded in the binary. */
export interface Assets {
  /** Identifies the whole set, and with it the directory they are unpacked to */
  readonly buildId: string;
  /** Unpacks an asset into the cache once (decompressed, read-only) and returns the path; later calls find it there */
  file(name: AssetName): Promise<string>;
  /** Streams an asset, decompressed */
  open(name: AssetName): Readable;
}

export interface BuildInfo {
  readonly version: string;
  /** Hash of the program and its assets; starts with `dev-` when run from source */
  readonly buildId: string;
  /** Absent when built outside a git checkout */
  readonly commit?: string | undefined;
}

/** The assets of this program: those in the binary, or `dist/assets` when run from source. */
export function openAssets(cacheDirectory: string): Assets {
  return isSea() ? embeddedAssets(cacheDirectory) : directoryAssets(developmentDirectory(), cacheDirectory);
}

/** The assets that the binary carries. `cacheDirectory` is where they are unpacked to. */
export function embeddedAssets(cacheDirectory: string): Assets {
  return new CachedAssets(buildInfo().buildId, cacheDirectory, attachmentsOf(ownExecutable));
}

/** The assets in a directory, as the build leaves them in `dist/assets`. For development and tests. */
export function directoryAssets(directory: string, cacheDirectory: string): Assets {
  const path = (name: AssetName): string => join(directory, name);
  return new CachedAssets(directoryBuildId(directory), cacheDirectory, {
    size: (name) => statSync(path(name)).size,
    text: (name) => readFileSync(path(name), 'utf8'),
    chunks: (name) => fileChunks(path(name)),
  });
}

/** The program of a thread: a file, or (`isText`) the text of it. */
export interface ThreadScript {
  readonly source: string | URL;
  readonly isText: boolean;
}

/** A program of ours for a thread of its own, `bin/NAME.ts` when run from source. */
export function threadScript(name: 'conversion' | 'download'): ThreadScript {
  if (isSea()) return { source: getAsset(`${name}.cjs`, 'utf8'), isText: true };
  return { source: new URL(`../../bin/${name}.ts`, import.meta.url), isText: false };
}

/** Which build this is. Cheap: every command sends it to the engine. */
export function buildInfo(): BuildInfo {
  if (isSea()) return JSON.parse(getAsset('build.json', 'utf8')) as BuildInfo;
  const directory = developmentDirectory();
  const manifest = JSON.parse(readFileSync(join(directory, '../../package.json'), 'utf8')) as BuildInfo;
  return { version: manifest.version, buildId: directoryBuildId(directory) };
}

/**
 * Loads SQLite's addon, as the object that `better-sqlite3` takes for `nativeBinding`.
 *
 * Where the cache is on a filesystem mounted noexec, it is loaded from a file elsewhere that is gone again at once.
 */
export async function loadAddon(
  assets: Assets,
  load: (path: string) => object = loadLibrary,
): Promise<object> {
  const path = await assets.file('better_sqlite3.node');
  try {
    return load(path);
  } catch (error) {
    if (!isNoexec(error)) throw error;
    return await loadFromElsewhere(readFileSync(path), load, error);
  }
}

/** Where the bytes of assets come from. */
interface AssetSource {
  /** Bytes as stored */
  size(name: AssetName): number;
  text(name: AssetName): string;
  chunks(name: AssetName): AsyncIterable<Buffer> | Iterable<Buffer>;
}

const chunkBytes = 256 * 1024;

class CachedAssets implements Assets {
  readonly buildId: string;
  readonly #cacheDirectory: string;
  readonly #source: AssetSource;
  readonly #inFlight = new Map<AssetName, Promise<string>>();

  constructor(buildId: string, cacheDirectory: string, source: AssetSource) {
    this.buildId = buildId;
    this.#cacheDirectory = cacheDirectory;
    this.#source = source;
  }

  /** Only work in flight is shared: somebody may empty the cache while an engine runs, so a finished file is checked again. */
  file(name: AssetName): Promise<string> {
    let work = this.#inFlight.get(name);
    if (work === undefined) {
      work = this.#unpack(name).finally(() => this.#inFlight.delete(name));
      this.#inFlight.set(name, work);
    }
    return work;
  }

  open(name: AssetName): Readable {
    // Loaded here: streams and zlib would cost every command milliseconds.
    const { Readable, pipeline } = process.getBuiltinModule('node:stream');
    const stored = Readable.from(this.#source.chunks(name), { objectMode: false });
    if (!name.endsWith('.zst')) return stored;
    const { createZstdDecompress } = process.getBuiltinModule('node:zlib');
    // `pipeline` hands a failure of the source on to the reader, who sees it on the stream itself.
    return pipeline(stored, createZstdDecompress(), () => undefined);
  }

  async #unpack(name: AssetName): Promise<string> {
    const { unpackAsset } = await import('./asset-cache.ts');
    return unpackAsset({
      cacheDirectory: this.#cacheDirectory,
      buildId: this.buildId,
      fileName: name.replace(/\.zst$/, ''),
      mode: name.endsWith('.node') ? 0o500 : 0o400,
      sizeBytes: this.#unpackedSize(name),
      open: () => this.open(name),
    });
  }

  #unpackedSize(name: AssetName): number | undefined {
    if (!name.endsWith('.zst')) return this.#source.size(name);
    const manifest = JSON.parse(this.#source.text('manifest.json')) as SizeManifest;
    return manifest.files.find((file) => file.name === name)?.unpackedBytes;
  }
}

async function* fileChunks(path: string): AsyncIterable<Buffer> {
  for await (const chunk of createReadStream(path, { highWaterMark: chunkBytes })) yield chunk as Buffer;
}

/** Decompressed sizes as the manifest lists them. The one place that reads this part of it; `guest` has the rest. */
interface SizeManifest {
  readonly files: readonly { readonly name: string; readonly unpackedBytes: number }[];
}

/** `dist/assets` of the source tree this file is in. */
function developmentDirectory(): string {
  return fileURLToPath(new URL('../../dist/assets', import.meta.url));
}

/** Names the state of the files without reading them: 32 bits of FNV-1a over names, sizes and times. */
function directoryBuildId(directory: string): string {
  let hash = 0x811c9dc5;
  for (const name of assetNames) {
    const status = statSync(join(directory, name), { throwIfNoEntry: false });
    for (const byte of Buffer.from(`${name} ${status?.size} ${status?.mtimeMs}\n`)) {
      hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
    }
  }
  return `dev-${hash.toString(16).padStart(8, '0')}`;
}

function loadLibrary(path: string): object {
  const library = { exports: {} };
  process.dlopen(library, path);
  return library.exports;
}

function isNoexec(error: unknown): boolean {
  return error instanceof Error && /failed to map segment|Operation not permitted/.test(error.message);
}

async function loadFromElsewhere(
  content: Buffer,
  load: (path: string) => object,
  cause: unknown,
): Promise<object> {
  const { randomBytes } = await import('node:crypto');
  const { tmpdir } = await import('node:os');
  for (const directory of new Set(['/dev/shm', tmpdir(), '/var/tmp'])) {
    const path = join(directory, `banger-${randomBytes(8).toString('hex')}.node`);
    let descriptor: number | undefined;
    try {
      writeFileSync(path, content, { flag: 'wx', mode: 0o500 });
      descriptor = openSync(path, 'r');
      unlinkSync(path);
      return load(`/proc/self/fd/${descriptor}`);
    } catch {
      // This directory is missing, full, read-only or noexec as well: the next one may do.
    } finally {
      if (descriptor !== undefined) closeSync(descriptor);
    }
  }
  throw new BangerError(
    'host_unsupported',
    'No directory allows SQLite to be loaded: all are mounted noexec',
    {
      hint: 'Use a cache on a filesystem without noexec: BANGER_HOME=DIR banger …',
      cause,
    },
  );
}
