import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../../errors.ts';
import { writeFileAtomic } from '../../../host/files.ts';
import type { RawPath } from '../host-tree/raw-path.ts';

/** One file as a guest was sent it. */
export interface SentFile {
  /** Octal, as git has it */
  readonly mode: string;
  /** Git's name of its content */
  readonly oid: string;
  /** Absent when only the guest could be asked, which keeps git's modes alone */
  readonly permissions?: number;
  readonly sizeBytes?: number;
  /** Of the host's file; see `stampOf` */
  readonly stamp?: string;
}

/** What a guest's workspace was made of, so that the next `prepare` sends what is different. */
export interface Manifest {
  /** Git tree of the files; a manifest of another one than the workspace's is not used */
  readonly baseTree: string;
  readonly files: ReadonlyMap<RawPath, SentFile>;
  /** Commits whose objects the guest has, all that HEAD's history had then; absent: all of HEAD's history */
  readonly commits?: readonly string[];
  /** Of the tips of that history; see `describeHistory`. Absent when nobody knows. */
  readonly history?: string;
  /** Tells one index from the next; absent when there was none, or nobody knows */
  readonly index?: string;
  /** Index entries of paths where the index is not as the file is: `mode oid stage`, joined by commas, empty for none */
  readonly staged?: Readonly<Record<RawPath, string>>;
  /** Small files of the repository, by their path in it; latin1. Absent when nobody knows. */
  readonly texts?: Readonly<Record<string, string>>;
}

/** Where manifests of a VM's workspaces are, and of which of them. */
export interface ManifestPlace {
  readonly directory: string;
  readonly guestPath: string;
}

/**
 * Reads the manifest of a sending; undefined when it is missing or not what it should be: the guest can be asked
 * instead.
 */
export async function readManifest(
  place: ManifestPlace,
  { token, baseTree }: { readonly token?: string; readonly baseTree: string },
): Promise<Manifest | undefined> {
  if (token === undefined) return undefined;
  try {
    const manifest = parseManifest(await readFile(fileOf(place, token), 'latin1'));
    return manifest?.baseTree === baseTree ? manifest : undefined;
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  }
}

/**
 * Keeps the manifest of a sending beside those of others: which of them counts is known when the tree is in place.
 * One that cannot be written is done without: what it says can be found out again. Nor is a directory made for a VM
 * that is gone.
 */
export async function writeManifest(place: ManifestPlace, token: string, manifest: Manifest): Promise<void> {
  try {
    await mkdir(place.directory, { mode: 0o700 }).catch((error: unknown) => {
      if (errnoOf(error) !== 'EEXIST') throw error;
    });
    const text = Buffer.from(manifestText(manifest), 'latin1');
    await writeFileAtomic(fileOf(place, token), text, 0o600);
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
  }
}

/** Removes manifests of what was sent to this place, but for one sending's. */
export async function forgetManifests(place: ManifestPlace, keep: string | undefined): Promise<void> {
  const kept = keep === undefined ? undefined : nameOf(place, keep);
  const prefix = `${hash(place.guestPath)}-`;
  const names = await readdir(place.directory).catch(() => []);
  const old = names.filter((name) => name.startsWith(prefix) && name !== kept);
  await Promise.all(old.map((name) => rm(join(place.directory, name), { force: true })));
}

function fileOf(place: ManifestPlace, token: string): string {
  return join(place.directory, nameOf(place, token));
}

function nameOf({ guestPath }: ManifestPlace, token: string): string {
  return `${hash(guestPath)}-${token}.manifest`;
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

const version = 'banger manifest 1';

/** A line of JSON, then a record for each file, ended by a zero byte: names are bytes. */
function manifestText({ files, ...head }: Manifest): string {
  const records = [...files].map(([path, { mode, oid, permissions, sizeBytes, stamp }]) => {
    return `${mode} ${oid} ${permissions ?? '-'} ${sizeBytes ?? '-'} ${stamp ?? '-'}\t${path}\0`;
  });
  const line = Buffer.from(JSON.stringify({ version, ...head })).toString('latin1');
  return `${line}\n${records.join('')}end`;
}

function parseManifest(text: string): Manifest | undefined {
  const newline = text.indexOf('\n');
  const head = headOf(text.slice(0, Math.max(newline, 0)));
  if (head?.version !== version || !/[\0\n]end$/.test(text)) return undefined;
  const files = new Map<RawPath, SentFile>();
  for (const record of text.slice(newline + 1, -'end'.length).split('\0')) {
    if (record === '') continue;
    const tab = record.indexOf('\t');
    const [mode, oid, permissions, sizeBytes, stamp] = record.slice(0, tab).split(' ');
    files.set(record.slice(tab + 1), {
      mode: mode!,
      oid: oid!,
      permissions: permissions === '-' ? undefined : Number(permissions),
      sizeBytes: sizeBytes === '-' ? undefined : Number(sizeBytes),
      stamp: stamp === '-' ? undefined : stamp,
    });
  }
  const { baseTree, commits, history, index, staged, texts } = head;
  return { baseTree, files, commits, history, index, staged, texts };
}

type Head = Omit<Manifest, 'files'> & { readonly version: string };

/** Undefined when that is no JSON: something else has written there, or the disk has. */
function headOf(line: string): Head | undefined {
  try {
    return JSON.parse(Buffer.from(line, 'latin1').toString('utf8')) as Head;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
