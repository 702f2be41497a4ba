import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../../errors.ts';
import { writeFileAtomic } from '../../../host/files.ts';

/** Where manifests of a VM's workspaces are, and of which of them. */
export interface ManifestPlace {
  readonly directory: string;
  readonly guestPath: string;
}

/** What is recorded of a sending: what it was made of, and what of the guest's changes went into the host's tree since. */
export type RecordKind = 'manifest' | 'applied';

/** Reads a record of a sending; undefined when there is none. */
export async function readRecordFile(
  place: ManifestPlace,
  token: string,
  kind: RecordKind,
): Promise<string | undefined> {
  try {
    return await readFile(fileOf(place, token, kind), 'latin1');
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
  { kind, text }: { readonly kind: RecordKind; readonly text: string },
): Promise<boolean> {
  try {
    await mkdir(place.directory, { mode: 0o700 }).catch((error: unknown) => {
      if (errnoOf(error) !== 'EEXIST') throw error;
    });
    await writeFileAtomic(fileOf(place, token, kind), Buffer.from(text, 'latin1'), 0o600);
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

function fileOf({ directory, guestPath }: ManifestPlace, token: string, kind: RecordKind): string {
  return join(directory, `${hash(guestPath)}-${token}.${kind}`);
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/** The first line of a record, as JSON. Undefined when it is none: something else has written there, or the disk has. */
export function recordHead<Head extends { readonly version: string }>(
  text: string,
  version: string,
): Head | undefined {
  try {
    const head = JSON.parse(
      Buffer.from(text.slice(0, text.indexOf('\n')), 'latin1').toString('utf8'),
    ) as Head;
    return head.version === version && /[\0\n]end$/.test(text) ? head : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** A record: a line of JSON, then lines of its own ended by a zero byte each, since names are bytes. */
export function recordText(head: { readonly version: string }, lines: readonly string[]): string {
  const line = Buffer.from(JSON.stringify(head)).toString('latin1');
  return `${line}\n${lines.map((each) => `${each}\0`).join('')}end`;
}

/** The lines after the first. */
export function recordLines(text: string): string[] {
  return text
    .slice(text.indexOf('\n') + 1, -'end'.length)
    .split('\0')
    .slice(0, -1);
}
