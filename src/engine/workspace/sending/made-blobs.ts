import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { createDeflate } from 'node:zlib';
import { errnoOf } from '../../../errors.ts';
import type { Guest } from '../../guest.ts';
import type { WorkingTree } from '../host-tree/inspect-tree.ts';
import { hostPath, type RawPath } from '../host-tree/raw-path.ts';
import type { ListedFile } from '../host-tree/sent-files.ts';
import { stampOf, type TreeFile } from '../host-tree/tree-files.ts';
import type { RepositoryPlace } from './ship-submodules.ts';
import { updateNames } from './update-names.ts';

/** In a guest; see `guest/blobs.c`. Guests that were started by an older build have none, and get these objects packed. */
export const blobsProgram = '/run/banger/bin/blobs';

/** A file whose content git has as it is: the guest makes the object of the file that it gets. */
export interface MadeBlob {
  readonly oid: string;
  readonly sizeBytes: number;
  /** Adler-32 of the object, in hexadecimal */
  readonly sum: string;
  /** The file, below the workspace */
  readonly source: RawPath;
  /** Where its object goes, below the workspace */
  readonly target: RawPath;
}

/** Tells whether a guest can make objects. Asked only when there are some to be made. */
export type CanMakeBlobs = () => Promise<boolean>;

export function canMakeBlobsIn(guest: Guest, signal: AbortSignal): CanMakeBlobs {
  return async () => (await guest.runToolbox(['test', '-x', blobsProgram], { signal })).exit.code === 0;
}

/** What is smaller costs more as a file of its own than what the way to the guest takes. */
const leastBytes = 1024 * 1024;
/** `guest/blobs.c` holds a megabyte. */
const mostListBytes = 1024 * 1024 - 16 * 1024;

export interface MadeInput {
  readonly listed: readonly ListedFile[];
  readonly place: RepositoryPlace;
  readonly canMakeBlobs?: CanMakeBlobs;
  /** Of those that travel as a file: which to consider */
  readonly isWanted?: (file: ListedFile) => boolean;
}

/**
 * Finds the large files that travel and are objects of git, too, byte for byte: no filter and no other line ends. Sent
 * as both they would take twice the time.
 */
export async function findMadeBlobs(
  tree: WorkingTree,
  { listed, place, canMakeBlobs, isWanted = () => true }: MadeInput,
): Promise<MadeBlob[]> {
  const large = new Map<RawPath, TreeFile>();
  for (const file of tree.files) if (file.sizeBytes >= leastBytes) large.set(file.path, file);
  const candidates = new Map<string, TreeFile>();
  for (const each of listed) {
    const file = each.mode.startsWith('100') ? large.get(each.path) : undefined;
    if (file && isWanted(each)) candidates.set(each.oid, file);
  }
  if (candidates.size === 0 || !(await canMakeBlobs?.())) return [];
  const made: MadeBlob[] = [];
  for (const [oid, file] of candidates) {
    const found = await digest(tree, file);
    if (found?.oid !== oid) continue;
    made.push({
      oid,
      sizeBytes: file.sizeBytes,
      sum: found.sum,
      source: `${place.tree}${file.path}`,
      target: `${place.git}objects/${oid.slice(0, 2)}/${oid.slice(2)}`,
    });
  }
  return fitting(made);
}

/** As `guest/blobs.c` reads it. */
export function madeList(made: readonly MadeBlob[]): Buffer {
  return Buffer.from(made.map(lineOf).join(''), 'latin1');
}

/** For a script: makes the objects that are listed in what has arrived in a directory, if there is such a list. */
export function makeBlobs(directory: string): string {
  return `{ [ ! -f ${directory}/${updateNames.blobs} ] || ${blobsProgram} ${directory} ${updateNames.blobs}; }`;
}

function lineOf({ sizeBytes, sum, source, target }: MadeBlob): string {
  return [sizeBytes, sum, source, target].map((word) => `${word}\0`).join('');
}

function fitting(made: readonly MadeBlob[]): MadeBlob[] {
  let bytes = 0;
  return made.filter((each) => (bytes += lineOf(each).length) <= mostListBytes);
}

/** What git would call a file's content, and the check sum of that object; undefined when the file is another by now. */
async function digest(
  { repository: { topLevel, objectFormat } }: WorkingTree,
  { path, source, sizeBytes, stamp }: TreeFile,
): Promise<Pick<MadeBlob, 'oid' | 'sum'> | undefined> {
  const handle = await openIfThere(source ?? hostPath(topLevel, path));
  if (!handle) return undefined;
  try {
    if (stampOf(await handle.stat({ bigint: true })) !== stamp) return undefined;
    const hash = createHash(objectFormat);
    const object = async function* (): AsyncGenerator<Buffer> {
      yield Buffer.from(`blob ${sizeBytes}\0`);
      yield* handle.createReadStream({
        autoClose: false,
        highWaterMark: 256 * 1024,
      }) as AsyncIterable<Buffer>;
    };
    const hashed = async function* (pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
      for await (const piece of pieces) {
        hash.update(piece);
        yield piece;
      }
    };
    // Compresses nothing, in a thread of its own: what it ends with is the sum.
    let last = Buffer.alloc(0);
    await pipeline(object, hashed, createDeflate({ level: 0 }), async (pieces: AsyncIterable<Buffer>) => {
      for await (const piece of pieces) last = Buffer.concat([last, piece.subarray(-4)]).subarray(-4);
    });
    return { oid: hash.digest('hex'), sum: last.toString('hex') };
  } finally {
    await handle.close();
  }
}

async function openIfThere(source: string | Buffer): Promise<FileHandle | undefined> {
  try {
    // Not blocking: what was a file may be a pipe by now.
    return await open(source, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO'].includes(errnoOf(error) ?? '')) return undefined;
    throw error;
  }
}
