import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError } from '../../../errors.ts';
import type { Exec, ExecOutput } from '../../../host/exec.ts';
import { onGuestBranch, switchTree, type GuestBranch } from './guest-branch.ts';
import { filteredPaths, filterWarnings } from './filtered-paths.ts';
import { untouchedPaths } from './index-records.ts';
import { copyIndex, parseChanged, parseEntries, type IndexEntry } from './index-entries.ts';
import { countOthers, type LeftBehind } from './left-behind.ts';
import { ownViewWarnings } from './own-views.ts';
import { repositoryStamp, waitForQuiet } from './quiet-repository.ts';
import { displayPath, isTreePath, type RawPath } from './raw-path.ts';
import { findRepository, type Repository } from './repository.ts';
import { readRepositoryState, type RepositoryState } from './repository-state.ts';
import { findSubmodules, type Submodule } from './submodules.ts';
import type { GitVariables } from './scratch-objects.ts';
import { statTreeFiles, type TreeFile, type TreeFiles } from './tree-files.ts';
import { userAttributesWarnings } from './user-attributes.ts';
import { findUntracked, isBelow, resolveIncludes } from './untracked-files.ts';

/** A working tree as it is at one moment: what git has recorded of it, and which files are there. */
export interface WorkingTree {
  readonly repository: Repository;
  readonly state: RepositoryState;
  /** Copy of the index in the scratch directory; absent when the repository has none yet */
  readonly indexCopy?: string;
  readonly entries: readonly IndexEntry[];
  /** What travels: tracked files that exist, and others that were asked for; each path once */
  readonly files: readonly TreeFile[];
  readonly submodules: readonly Submodule[];
  /** Paths whose content git has to read: it differs from the index, or cannot be told from it without reading */
  readonly unsure: ReadonlySet<RawPath>;
  /** Paths whose files git finds changed since they were staged */
  readonly touched: ReadonlySet<RawPath>;
  /** Paths that go through a filter of this host, such as LFS */
  readonly filtered: ReadonlySet<RawPath>;
  /** Of the commit that a guest's branch begins at: paths of which the guest gets what git has stored, not what a filter makes of it */
  readonly asStored?: readonly RawPath[];
  /** Untracked files that stay behind, ignored ones not counted; those of submodules are counted */
  readonly untracked: number;
  /** Ignored files, and directories ignored as a whole, that stay behind */
  readonly ignored: number;
  /** Other branches, tags and stashes */
  readonly leftBehind: LeftBehind;
  readonly warnings: readonly string[];
}

export interface InspectInput {
  readonly path: string;
  /** Private directory for the copy of the index */
  readonly scratch: string;
  readonly includeUntracked: boolean;
  /** Absolute paths of files and directories that travel though git does not track them, ignored or not */
  readonly include?: readonly string[];
  /** They were there once: one that is gone is no error */
  readonly mayBeGone?: boolean;
  /** A branch that only the guest gets: the tree is as if it were checked out */
  readonly branch?: GuestBranch;
  readonly signal: AbortSignal;
  /** How long to wait for another git that changes the index; 10 seconds when absent */
  readonly lockTimeoutMs?: number;
}

const maxAttempts = 3;

/**
 * Reads the state of the git working tree that a path belongs to.
 *
 * The repository is only read, through a copy of its index, so that a `git add` under way in it cannot show half
 * of itself. Index and HEAD are the same before and after the files were looked at; since each file is sent only
 * if it is still as it was then, what arrives has been there at one moment. Refuses what cannot travel.
 */
export async function inspectTree(exec: Exec, input: InspectInput): Promise<WorkingTree> {
  for (let attempt = 1; attempt <= maxAttempts; attempt++) {
    const scratch = join(input.scratch, String(attempt));
    await mkdir(scratch, { mode: 0o700 });
    const tree = await inspectOnce(exec, { ...input, scratch });
    if (tree) return tree;
  }
  throw new BangerError('busy', `Git keeps changing "${input.path}" while it is being read`, {
    hint: 'Let the program that does so finish, and try again',
  });
}

/** Undefined when somebody changed index or HEAD meanwhile. */
async function inspectOnce(exec: Exec, input: InspectInput): Promise<WorkingTree | undefined> {
  const { scratch, signal } = input;
  const found = await findRepository(exec, input.path, signal);
  const repository = input.branch ? await onGuestBranch(found, input.branch) : found;
  const { git, topLevel } = repository;
  const include = await resolveIncludes(topLevel, input.include ?? [], input);
  await waitForQuiet(repository, { signal, timeoutMs: input.lockTimeoutMs });
  const before = await repositoryStamp(found, found);

  const indexCopy = await copyIndex(repository.paths.index, scratch);
  // A path that does not exist stands for an empty index.
  const env = { GIT_INDEX_FILE: indexCopy ?? join(scratch, 'no-index') };
  const listed = await git(['ls-files', '-s', '-v', '-z'], { env });
  // Read while this thread looks at the files: what is looked at does not depend on it.
  const beside = begun(Promise.all([readRepositoryState(repository), countOthers(repository)]));
  // What is in a submodule is not ours to include; without that there is nothing to wait for.
  const early =
    include.length === 0 ? begun(findUntracked(repository, { ...input, include }, env)) : undefined;
  const entries = parseEntries(listed.stdout);
  const submodules = await findSubmodules(repository, entries, {
    scratch,
    inspect: (path, own) => {
      const inner = (input.include ?? []).filter((each) => isBelow(each, path) && each !== path);
      return inspectTree(exec, { ...input, path, scratch: own, include: inner, branch: undefined });
    },
  });
  const links = submodules.submodules.map(({ path }) => path);
  const outer = include.filter((path) => !links.some((link) => isBelow(path, link)));
  const untracked = early ?? begun(findUntracked(repository, { ...input, include: outer }, env));
  const added = input.includeUntracked || include.length > 0 ? (await untracked).added : [];

  const paths: RawPath[] = [];
  const forbidden: RawPath[] = [];
  for (const path of pathsOf(entries, added)) (isTreePath(path) ? paths : forbidden).push(path);
  const [{ files, special, changed, after }, filtered] = await Promise.all([
    lookAtFiles(repository, paths, { env, found, signal, beside: [untracked, beside] }),
    filteredPaths(
      repository,
      entries.map((entry) => entry.path),
      env,
    ),
  ]);
  if (after !== before) return undefined;
  const others = await untracked;
  const [state, { leftBehind, replaced }] = await beside;
  const views = await Promise.all([
    userAttributesWarnings(repository.config),
    ownViewWarnings(repository, { paths: entries.map(({ path }) => path), env, replaced }),
  ]);

  const changes = parseChanged(changed.stdout);
  const unsure = new Set([...changes.keys(), ...filtered, ...others.added]);
  for (const entry of entries) {
    if (entry.stage > 0 || entry.isAssumedUnchanged || entry.isSkipped) unsure.add(entry.path);
  }
  const touched = new Set([...changes].flatMap(([path, status]) => (status === 'M' ? [path] : [])));
  const hidden = new Set(filtered.filter((path) => touched.has(path)));
  const untouched = await untouchedPaths(
    git,
    files.filter(({ path }) => hidden.has(path)),
    env,
  );
  const inner = submodules.submodules.flatMap(({ tree }) => (tree ? [tree] : []));
  const total = (count: (tree: WorkingTree) => number): number =>
    inner.reduce((sum, tree) => sum + count(tree), 0);
  const tree: WorkingTree = {
    repository,
    state,
    indexCopy,
    entries,
    files,
    submodules: submodules.submodules,
    unsure,
    touched: new Set([...touched].filter((path) => !untouched.has(path))),
    filtered: new Set(filtered),
    untracked: others.untracked + total((tree) => tree.untracked),
    ignored: others.ignored + total((tree) => tree.ignored),
    leftBehind,
    warnings: [
      ...state.warnings,
      ...views.flat(),
      ...others.warnings,
      ...special.map((path) => `"${displayPath(path)}" is neither file nor symlink now and stays behind`),
      ...forbidden.map(forbiddenWarning),
      ...submodules.warnings,
    ],
  };
  const switched = await switchTree(tree, { from: found.head, scratch, signal });
  return { ...switched, warnings: [...switched.warnings, ...filterWarnings(switched)] };
}

interface Look extends TreeFiles {
  readonly changed: ExecOutput;
  /** What index and HEAD were when all files had been looked at */
  readonly after: string;
}

async function lookAtFiles(
  { git, topLevel }: Repository,
  paths: readonly RawPath[],
  {
    env,
    found,
    signal,
    beside,
  }: {
    readonly env: GitVariables;
    readonly found: Repository;
    readonly signal: AbortSignal;
    /** What has to have been read before it is asked whether index and HEAD have stayed the same */
    readonly beside: readonly Promise<unknown>[];
  },
): Promise<Look> {
  const files = await statTreeFiles(topLevel, paths, signal);
  const [changed, after] = await Promise.all([
    // After the look at the files: one that changes in between is found here, one that changes later as it is sent.
    // Looking into submodules, git would run what their repositories are set to run.
    git(['diff-files', '--name-status', '--ignore-submodules=all', '-z'], { env }),
    Promise.all(beside).then(() => repositoryStamp(found)),
  ]);
  return { ...files, changed, after };
}

/** Each once. */
function pathsOf(entries: readonly IndexEntry[], added: readonly RawPath[]): Set<RawPath> {
  const paths = new Set<RawPath>();
  for (const { path } of entries) paths.add(path);
  for (const path of added) paths.add(path);
  return paths;
}

/** Somebody else's error may come first; this one is no less awaited. */
function begun<T>(work: Promise<T>): Promise<T> {
  work.catch(() => undefined);
  return work;
}

/** Throws what `prepare` would throw for these paths before it touches a guest; nothing else happens. */
export async function checkTree(
  exec: Exec,
  { path, include = [], signal }: Pick<InspectInput, 'path' | 'include' | 'signal'>,
): Promise<Repository> {
  const repository = await findRepository(exec, path, signal);
  await resolveIncludes(repository.topLevel, include);
  return repository;
}

function forbiddenWarning(path: RawPath): string {
  return `"${displayPath(path)}" would be part of the guest's own repository and stays behind`;
}
