import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { copyIndexFile, submoduleMode } from './index-entries.ts';
import type { WorkingTree } from './inspect-tree.ts';
import type { RawPath } from './raw-path.ts';
import type { Repository } from './repository.ts';

/** Git's variables for a directory of objects, and an index where one is needed. */
export type GitVariables = Readonly<Record<string, string>>;
interface IndexVariable {
  readonly GIT_INDEX_FILE: string;
}

/** Makes a directory for new objects beside a repository: git reads from both, and the user's gets none. */
export async function scratchObjects({ paths }: Repository, scratch: string): Promise<GitVariables> {
  const objects = join(scratch, 'objects');
  await mkdir(join(objects, 'pack'), { recursive: true });
  return {
    GIT_OBJECT_DIRECTORY: objects,
    GIT_ALTERNATE_OBJECT_DIRECTORIES: quoteAlternate(paths.objects),
  };
}

/** How an index was filled. */
export interface FilledIndex {
  /** It has the very paths of the user's, and is different in the read ones alone */
  readonly isPlain: boolean;
  readonly read: readonly RawPath[];
}

/**
 * Fills the index that `env` names with a working tree's files as they are. Files that git knows to be unchanged are
 * taken from its index, others are read.
 */
export async function fillIndex(tree: WorkingTree, env: GitVariables & IndexVariable): Promise<FilledIndex> {
  const { git } = tree.repository;
  const isCopied = await copyPlainIndex(tree, env.GIT_INDEX_FILE);
  if (!isCopied) {
    const sent = new Set(tree.files.map((file) => file.path));
    const known = tree.entries
      .filter((entry) => entry.stage === 0 && sent.has(entry.path))
      .map((entry) => `${entry.mode} ${entry.oid} 0\t${entry.path}\0`);
    known.push(...submoduleLines(tree));
    await git(['update-index', '-z', '--index-info'], { env, input: Buffer.from(known.join(''), 'latin1') });
  }
  const read =
    tree.unsure.size === 0 ? [] : tree.files.flatMap(({ path }) => (tree.unsure.has(path) ? [path] : []));
  if (read.length > 0) {
    // They go in a moment, and compressing takes longer than all else. `--remove`: a file that goes away just now is missed when it is sent, not here.
    await git(['-c', 'core.looseCompression=0', 'update-index', '--add', '--remove', '-z', '--stdin'], {
      env,
      input: Buffer.from(read.map((path) => `${path}\0`).join(''), 'latin1'),
    });
  }
  return { isPlain: isCopied && tree.entries.length === tree.files.length, read };
}

/**
 * Begins with the user's index as it is where that has the very files that travel, and git finds out by itself which of
 * them to read: it knows its trees, too, so that only those that changed are made again. False where it is not so.
 */
async function copyPlainIndex(tree: WorkingTree, target: string): Promise<boolean> {
  const { entries, files, indexCopy, touched, unsure } = tree;
  if (indexCopy === undefined || entries.length === 0) return false;
  const sent = new Set(files.map((file) => file.path));
  const isPlain = entries.every(
    ({ path, mode, stage, isSkipped, isAssumedUnchanged }) =>
      stage === 0 && mode !== submoduleMode && !isSkipped && !isAssumedUnchanged && sent.has(path),
  );
  if (!isPlain) return false;
  const others = new Set([...unsure].filter((path) => !touched.has(path)));
  if (others.size > 0 && entries.some(({ path }) => others.has(path))) return false;
  await copyIndexFile(indexCopy, target);
  return true;
}

/** Writes the git tree of what is in the index that `env` names. */
export async function writeTree({ git }: Repository, env: GitVariables): Promise<string> {
  return (await git(['write-tree', '--missing-ok'], { env })).stdout.toString('latin1').trim();
}

/** Submodules as git sees them in the working tree: at the commit that is checked out, or the one that should be. */
function submoduleLines({ submodules, entries }: WorkingTree): string[] {
  return submodules.flatMap(({ path, tree }) => {
    const recorded = entries.find((entry) => entry.path === path && entry.stage === 0);
    const oid = tree?.repository.head ?? recorded?.oid;
    return oid === undefined ? [] : [`${submoduleMode} ${oid} 0\t${path}\0`];
  });
}

/** Git reads this variable as a list: a colon in the path would end an entry, so it is quoted as a C string. */
function quoteAlternate(path: string): string {
  return `"${path.replace(/[\\"]/g, '\\$&')}"`;
}
