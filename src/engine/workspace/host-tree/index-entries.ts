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

/** Parses `git ls-files -s -v -z`: tag, mode, object and stage, then the path. Lower-case tags are assumed unchanged. */
export function parseEntries(output: Buffer): IndexEntry[] {
  return splitRaw(output).map((line) => {
    const match = /^([A-Za-z?]) (\d{6}) ([0-9a-f]{40,64}) ([0-3])\t([^]+)$/.exec(line);
    if (!match) throw new Error(`git ls-files printed ${JSON.stringify(line)}`);
    const [, tag, mode, oid, stage, path] = match;
    return {
      path: path!,
      mode: mode!,
      oid: oid!,
      stage: Number(stage),
      isSkipped: tag!.toUpperCase() === 'S',
      isAssumedUnchanged: tag! !== tag!.toUpperCase(),
    };
  });
}

/** Parses `git diff-files --name-status -z`. What is only intended to be added has status A, a conflict U and more. */
export function parseChanged(output: Buffer): Map<RawPath, string> {
  const fields = splitRaw(output);
  const changes = new Map<RawPath, string>();
  for (let at = 0; at + 1 < fields.length; at += 2) changes.set(fields[at + 1]!, fields[at]!);
  return changes;
}
