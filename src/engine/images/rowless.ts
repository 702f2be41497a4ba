import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { namesIn } from '../../host/files.ts';
import { rowlessMark } from '../../state/layout.ts';

/**
 * Says of the directory of an image or a kernel that it has no row yet. Without this an engine takes one that no row
 * owns for one that the database has lost, as a copy of it that was put back has.
 */
export async function markRowless(directory: string): Promise<void> {
  await writeFile(rowlessMark(directory), '', { mode: 0o600 });
}

/**
 * The same before its row goes. A disk so full that it cannot be said must not keep anybody from deleting what fills
 * it, and a directory that is not there needs no mark.
 */
export async function tryMarkRowless(directory: string): Promise<void> {
  await markRowless(directory).catch(() => undefined);
}

/** To be called when there is a row. A mark that stays is removed at the next start of an engine. */
export async function clearRowless(directory: string): Promise<void> {
  await rm(rowlessMark(directory), { force: true }).catch(() => undefined);
}

/**
 * Removes what no row owns and is marked so, or has not even its main file. Returns the paths of the others: whoever
 * made them was told that they are there, and an import cannot be pulled again.
 */
export async function settleRowless(
  parent: string,
  owned: ReadonlySet<string>,
  mainFile: string,
): Promise<string[]> {
  const lost: string[] = [];
  for (const name of await namesIn(parent)) {
    // Anything with another kind of name is not ours.
    if (!/^[0-9a-f]{64}$/.test(name)) continue;
    const directory = join(parent, name);
    if (owned.has(name)) await clearRowless(directory);
    else if (existsSync(join(directory, mainFile)) && !existsSync(rowlessMark(directory)))
      lost.push(directory);
    else await rm(directory, { recursive: true, force: true });
  }
  return lost;
}
