import { copyFile, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../../errors.ts';
import { splitRaw, type RawPath } from './raw-path.ts';

/** An entry of git's index. */
export interface IndexEntry {
  readonly path: RawPath;
  /** Octal, such as `100644` */
  readonly mode: string;
  readonly oid: string;
  /** 0, or 1–3 for the sides of a conflict */
  readonly stage: number;
  /** Not in the working tree on purpose (sparse checkout) */
  readonly isSkipped: boolean;
  /** The user told git not to look whether it changed */
  readonly isAssumedUnchanged: boolean;
}

/** What git stores for a submodule: the commit it is at. */
export const submoduleMode = '160000';

/** Copies the index into a directory; undefined when there is none yet. */
export async function copyIndex(index: string, scratch: string): Promise<string | undefined> {
  const copy = join(scratch, 'index');
  try {
    await copyIndexFile(index, copy);
    return copy;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * Copies an index with a modification time that is not later than the original's: git compares it with the times of
 * files to find those that changed within the same second, and would miss them otherwise.
 */
export async function copyIndexFile(from: string, to: string): Promise<void> {
  const { mtimeMs } = await stat(from);
  await copyFile(from, to);
  const seconds = Math.floor(mtimeMs / 1000);
  await utimes(to, seconds, seconds);
}

/**
 * Parses `git ls-files -s -v -z`: tag, mode, object and stage, then the path. Lower-case tags are assumed unchanged.
 *
 * Names and paths are read from the bytes one by one: parts of one long text would keep all of it in memory.
 */
export function parseEntries(output: Buffer): IndexEntry[] {
  const modes = new Map<string, string>();
  const entries: IndexEntry[] = [];
  for (let at = 0, end = output.indexOf(0); end !== -1; at = end + 1, end = output.indexOf(0, at)) {
    const tab = output.indexOf(0x09, at);
    const facts = output.toString('latin1', at, tab);
    const [, tag, mode, stage] = /^([A-Za-z?]) (\d{6}) [0-9a-f]{40,64} ([0-3])$/.exec(facts) ?? [];
    if (tag === undefined || tab > end)
      throw new Error(`git ls-files printed ${JSON.stringify(output.toString('latin1', at, end))}`);
    if (!modes.has(mode!)) modes.set(mode!, mode!);
    entries.push({
      path: output.toString('latin1', tab + 1, end),
      mode: modes.get(mode!)!,
      oid: output.toString('latin1', at + 'H 100644 '.length, tab - ' 0'.length),
      stage: Number(stage),
      isSkipped: tag.toUpperCase() === 'S',
      isAssumedUnchanged: tag !== tag.toUpperCase(),
    });
  }
  return entries;
}

/** Parses `git diff-files --name-status -z`. What is only intended to be added has status A, a conflict U and more. */
export function parseChanged(output: Buffer): Map<RawPath, string> {
  const fields = splitRaw(output);
  const changes = new Map<RawPath, string>();
  for (let at = 0; at + 1 < fields.length; at += 2) changes.set(fields[at + 1]!, fields[at]!);
  return changes;
}
