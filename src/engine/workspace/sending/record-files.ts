import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../../errors.ts';
import { syncDirectory, writeFileAtomic } from '../../../host/files.ts';

/** Where manifests of a VM's workspaces are, and of which of them. */
export interface ManifestPlace {
  readonly directory: string;
  readonly guestPath: string;
}

/**
 * What is recorded of a sending: what it was made of, and what of the guest's changes went into the host's tree since.
 * `applied-next` takes the place of that once the guest has its mark.
 */
export type RecordKind = 'manifest' | 'applied' | 'applied-next';

/** Reads a record of a sending; undefined when there is none. */
export async function readRecordFile(
  place: ManifestPlace,
  token: string,
  kind: RecordKind,
): Promise<Buffer | undefined> {
  try {
    return await readFile(fileOf(place, token, kind));
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  }
}

/**
 * Keeps a record of a sending beside those of others: which of them counts is known when the tree is in place. One that
 * cannot be written is done without (false): what it says can be found out again. Nor is a directory made for a VM that
 * is gone.
 */
export async function writeRecordFile(
  place: ManifestPlace,
  token: string,
  { kind, pieces }: { readonly kind: RecordKind; readonly pieces: AsyncIterable<Uint8Array> },
): Promise<boolean> {
  try {
    await mkdir(place.directory, { mode: 0o700 }).catch((error: unknown) => {
      if (errnoOf(error) !== 'EEXIST') throw error;
    });
    await writeFileAtomic(fileOf(place, token, kind), pieces, 0o600);
    return true;
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return false;
  }
}

/** Removes what is recorded of what was sent to this place, but for one sending's. */
export async function forgetRecords(place: ManifestPlace, keep: string | undefined): Promise<void> {
  const prefix = `${hash(place.guestPath)}-`;
  const names = await readdir(place.directory).catch(() => []);
  const isKept = (name: string): boolean => keep !== undefined && name.startsWith(`${prefix}${keep}.`);
  const old = names.filter((name) => name.startsWith(prefix) && !isKept(name));
  await Promise.all(old.map((name) => rm(join(place.directory, name), { force: true })));
}

export async function removeRecord(place: ManifestPlace, token: string, kind: RecordKind): Promise<void> {
  await rm(fileOf(place, token, kind), { force: true });
}

/** One takes the place of another. */
export async function renameRecord(
  place: ManifestPlace,
  token: string,
  { from, to }: { readonly from: RecordKind; readonly to: RecordKind },
): Promise<void> {
  await rename(fileOf(place, token, from), fileOf(place, token, to));
  await syncDirectory(place.directory);
}

function fileOf({ directory, guestPath }: ManifestPlace, token: string, kind: RecordKind): string {
  return join(directory, `${hash(guestPath)}-${token}.${kind}`);
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/** The first line of a record, as JSON. Undefined when it is none: something else has written there, or the disk has. */
export function recordHead<Head extends { readonly version: string }>(
  bytes: Buffer,
  version: string,
): Head | undefined {
  try {
    const head = JSON.parse(bytes.toString('utf8', 0, Math.max(bytes.indexOf(0x0a), 0))) as Head;
    const isWhole = /[\0\n]end$/.test(bytes.toString('latin1', bytes.length - 'end'.length - 1));
    return head.version === version && isWhole ? head : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** Of a piece that is written. */
const linesAtOnce = 2_000;

/** A record: a line of JSON, then lines of its own ended by a zero byte each, since names are bytes. */
export async function* recordPieces(
  head: { readonly version: string },
  lines: Iterable<string>,
): AsyncGenerator<Buffer> {
  yield Buffer.from(`${JSON.stringify(head)}\n`);
  let some: string[] = [];
  for (const line of lines) {
    some.push(`${line}\0`);
    if (some.length < linesAtOnce) continue;
    yield Buffer.from(some.join(''), 'latin1');
    some = [];
  }
  yield Buffer.from(`${some.join('')}end`, 'latin1');
}

/** Where the lines after the first begin and end. */
export function* recordSpans(bytes: Buffer): Generator<readonly [from: number, to: number]> {
  for (let at = bytes.indexOf(0x0a) + 1; ;) {
    const end = bytes.indexOf(0, at);
    if (end === -1) return;
    yield [at, end];
    at = end + 1;
  }
}
