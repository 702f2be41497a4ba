import { copyFile, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { resizedPaths } from '../host-tree/index-records.ts';
import type { WorkingTree } from '../host-tree/inspect-tree.ts';
import type { RawPath } from '../host-tree/raw-path.ts';

/**
 * The index as the guest gets it: in one file and without caches of this host, all else as the user left it. Git on
 * either side reads only files that do not have the time and size which the index has of them. `kept`: files that stay as
 * the guest has them, which may bear the time of ours by chance.
 */
export async function writeGuestIndex(
  tree: WorkingTree,
  scratch: string,
  kept: readonly RawPath[] = [],
): Promise<string | undefined> {
  if (tree.indexCopy === undefined) return undefined;
  const copy = join(scratch, 'guest-index');
  await copyFile(tree.indexCopy, copy);
  // Files that changed in the second of the index before are among the touched: git need not read others, and could not
  // compare those that go through a filter.
  const begun = Math.floor(Date.now() / 1000);
  const later = laterThanFiltered(tree);
  await utimes(copy, later, later);
  const env = { GIT_INDEX_FILE: copy };
  const resized = await resizedPaths(tree, tree.touched);
  const touched = [...tree.touched].filter((path) => !resized.has(path));
  const forget = (paths: readonly RawPath[]) =>
    tree.repository.git(['update-index', '-z', '--index-info'], { env, input: bareEntries(tree, paths) });
  await forget(touched);
  await tree.repository.git(['update-index', '-q', '--unmerged', '--refresh', '--force-write-index'], {
    env,
  });
  await utimes(copy, later, later);
  const unsafe = [...kept, ...racyBetween(tree, begun, later)];
  if (unsafe.length > 0) {
    await forget(unsafe);
    await utimes(copy, later, later);
  }
  return copy;
}

/** In seconds: when an index can be from so that git does not look into files which it cannot compare without their filter. */
export function laterThanFiltered({ files, filtered }: WorkingTree): number {
  return files.reduce(
    (latest, { path, mtimeSeconds }) => (filtered.has(path) ? Math.max(latest, mtimeSeconds + 1) : latest),
    Math.floor(Date.now() / 1000),
  );
}

/**
 * Files that git would look into again if the index were from when it was begun: what the guest writes into them at once
 * may have their time and size. Those behind a filter cannot be looked into there.
 */
function racyBetween({ files, filtered }: WorkingTree, begun: number, later: number): RawPath[] {
  return files
    .filter(({ path, mtimeSeconds: at }) => at >= begun && at < later && !filtered.has(path))
    .map(({ path }) => path);
}

/**
 * Entries of these files without sizes and times: a change can leave those as they were, which git tells by the inode
 * only. Where the size is another one git looks no further, neither here nor there.
 */
function bareEntries({ entries }: WorkingTree, paths: readonly RawPath[]): Buffer {
  const wanted = new Set(paths);
  const lines = entries
    .filter((entry) => entry.stage === 0 && !entry.isSkipped && !entry.isAssumedUnchanged)
    .filter((entry) => wanted.has(entry.path))
    .map(({ mode, oid, path }) => `${mode} ${oid} 0\t${path}\0`);
  return Buffer.from(lines.join(''), 'latin1');
}

/** An index as `knownIndexName` is to be: where the user told git not to look at a file, a copy without that. */
export async function writeKnownIndex(
  { entries, repository }: WorkingTree,
  indexFile: string | undefined,
): Promise<string | undefined> {
  const marked = entries.filter(({ stage, isSkipped, isAssumedUnchanged }) => {
    return stage === 0 && (isSkipped || isAssumedUnchanged);
  });
  if (indexFile === undefined || marked.length === 0) return indexFile;
  const copy = `${indexFile}-known`;
  await copyFile(indexFile, copy);
  const input = Buffer.from(marked.map(({ path }) => `${path}\0`).join(''), 'latin1');
  for (const mark of ['--no-skip-worktree', '--no-assume-unchanged']) {
    await repository.git(['update-index', mark, '-z', '--stdin'], { env: { GIT_INDEX_FILE: copy }, input });
  }
  return copy;
}
