import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf } from '../../../errors.ts';
import type { WorkingTree } from './inspect-tree.ts';
import { directoriesOf, parentsOf } from '../sending/plan-update.ts';
import { hostBytes, splitRaw, type RawPath } from './raw-path.ts';
import type { GitVariables } from './scratch-objects.ts';
import { describeIndex } from './sent-files.ts';
import { isBelow, resolveIncludes, type UntrackedWanted } from './untracked-files.ts';

/** Where a tree can change. Paths are absolute, and bytes: one per character (latin1). */
export interface WatchedTree {
  readonly directories: ReadonlySet<string>;
  /** Whether what happened to a file of one of the directories may matter */
  readonly isOfInterest: (directory: string, name: string | undefined, isContentOnly: boolean) => boolean;
}

/** What else than tracked files travels, as absolute paths of the host. */
export type WatchWanted = Pick<UntrackedWanted, 'includeUntracked'> & {
  readonly include: readonly string[];
  /** They were there once: those above one that is gone are watched for it */
  readonly mayBeGone?: boolean;
};

/** Git's files that tell of a change: its locks come and go whenever it is asked something. */
const gitFiles = /^(?:index|HEAD|packed-refs|[A-Z]+_HEAD)$/;

/**
 * Finds where a change can matter: directories of files that travel, those above them, those in which a file would
 * travel if there were one, and what git changes when it commits, stages or switches.
 */
export async function watchedTree(tree: WorkingTree, wanted: WatchWanted): Promise<WatchedTree> {
  const top = latin1(tree.repository.topLevel);
  const absolute = (path: RawPath): string => (path === '' ? top : `${top}/${path}`);
  const known = [...tree.files.map((file) => file.path), ...tree.entries.map((entry) => entry.path)];
  const parents = directoriesOf(known);
  const names = new Set([...known, ...parents].map(absolute));
  const isTrackedOnly = !wanted.includeUntracked && wanted.include.length === 0;
  const others = isTrackedOnly ? [] : await untrackedDirectories(tree, wanted);
  // One whose repository is not there yet.
  const empty = tree.submodules.filter((each) => each.tree === undefined).map(({ path }) => path);
  const open = new Set(empty.map(absolute));
  const gitDirectory = latin1(dirname(tree.repository.paths.index));
  const inner = await Promise.all(
    tree.submodules.flatMap(({ tree: own }) => {
      if (!own) return [];
      const include = wanted.include.filter((path) => isBelow(path, own.repository.topLevel));
      return [watchedTree(own, { ...wanted, include })];
    }),
  );
  // What it is a commit of may be all that changes.
  const logDirectory = `${gitDirectory}/logs`;
  const ofTree = [...parents, ...others, ...empty].map(absolute);
  const here = new Set([top, ...ofTree, gitDirectory, logDirectory]);
  return {
    directories: new Set([...here, ...inner.flatMap(({ directories }) => [...directories])]),
    isOfInterest: (directory, name, isContentOnly) => {
      if (
        inner.some(
          (each) => each.directories.has(directory) && each.isOfInterest(directory, name, isContentOnly),
        )
      )
        return true;
      if (!here.has(directory)) return false;
      if (name === undefined || open.has(directory)) return true;
      if (directory === gitDirectory) return gitFiles.test(name);
      if (directory === logDirectory) return name === 'HEAD';
      if (names.has(`${directory}/${name}`)) return true;
      return !isTrackedOnly && !isContentOnly;
    },
  };
}

/** Directories in which a file would travel though git does not track it, also those without any. */
async function untrackedDirectories(
  { repository: { git, topLevel }, indexCopy }: WorkingTree,
  { includeUntracked, include, mayBeGone }: WatchWanted,
): Promise<RawPath[]> {
  const env: GitVariables | undefined = indexCopy === undefined ? undefined : { GIT_INDEX_FILE: indexCopy };
  const list = async (...args: string[]): Promise<RawPath[]> => {
    const listed = await git(['ls-files', '--others', '--directory', '--exclude-standard', '-z', ...args], {
      env,
    });
    return splitRaw(listed.stdout).flatMap((path) => (path.endsWith('/') ? [path.slice(0, -1)] : []));
  };
  const found: RawPath[] = [];
  if (includeUntracked) {
    const [untracked, ignored] = await Promise.all([list(), list('--ignored')]);
    const isIgnored = new Set(ignored);
    for (const path of untracked)
      found.push(...(await below(topLevel, path, (each) => !isIgnored.has(each))));
  }
  const named = await resolveIncludes(topLevel, include, { mayBeGone });
  for (const path of named) {
    found.push(...(await below(topLevel, path, () => true)), ...parentsOf(path));
  }
  return found;
}

/** A directory and all in it, but for repositories; nothing for what is no directory. */
async function below(
  topLevel: string,
  path: RawPath,
  isWanted: (path: RawPath) => boolean,
): Promise<RawPath[]> {
  const entries = await readdir(path === '' ? topLevel : hostBytes(topLevel, path), {
    withFileTypes: true,
    encoding: 'buffer',
  }).catch((error: unknown) => {
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  });
  if (!entries) return [];
  const names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name.toString('latin1'));
  const inner = names
    .filter((name) => name !== '.git')
    .map((name) => (path === '' ? name : `${path}/${name}`))
    .filter(isWanted);
  const deeper = await Promise.all(inner.map((each) => below(topLevel, each, isWanted)));
  return [path, ...deeper.flat()];
}

/** Tells one state of a tree from the next; its submodules are part of it. */
export async function describeTree(tree: WorkingTree): Promise<string> {
  const hash = createHash('sha256');
  const { head, branch } = tree.repository;
  const add = (...parts: (string | undefined)[]): void => {
    hash.update(`${parts.join('\0')}\0\n`, 'latin1');
  };
  add(head, branch, await describeIndex(tree, tree.entries), ...tree.state.tips);
  for (const { path, bytes } of tree.state.files) add(path, bytes.toString('latin1'));
  for (const file of tree.files) add(file.path, file.stamp);
  for (const { path, tree: inner } of tree.submodules) add(path, inner && (await describeTree(inner)));
  return hash.digest('hex');
}

function latin1(path: string): string {
  return Buffer.from(path).toString('latin1');
}
