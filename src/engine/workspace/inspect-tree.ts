import { copyFile, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError, errnoOf } from '../../errors.ts';
import type { Exec } from '../../host/exec.ts';
import { displayPath, isTreePath, splitRaw, type RawPath } from './raw-path.ts';
import { findRepository, type Repository } from './repository.ts';
import { readRepositoryState, type RepositoryState } from './repository-state.ts';
import { statTreeFiles, type TreeFile } from './tree-files.ts';

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

/** A working tree as it is at one moment: what git has recorded of it, and which files are there. */
export interface WorkingTree {
  readonly repository: Repository;
  readonly state: RepositoryState;
  /** Copy of the index in the scratch directory; absent when the repository has none yet */
  readonly indexCopy?: string;
  readonly entries: readonly IndexEntry[];
  /** What travels: tracked files that exist, and untracked ones when asked for; each path once */
  readonly files: readonly TreeFile[];
  /** Paths whose content git has to read: it differs from the index, or cannot be told from it without reading */
  readonly unsure: ReadonlySet<RawPath>;
  /** Paths whose files git finds changed since they were staged */
  readonly touched: ReadonlySet<RawPath>;
  /** Untracked files that stay behind, ignored ones not counted */
  readonly untracked: number;
  readonly warnings: readonly string[];
}

export interface InspectInput {
  readonly path: string;
  /** Private directory for the copy of the index */
  readonly scratch: string;
  readonly includeUntracked: boolean;
  readonly signal: AbortSignal;
}

/**
 * Reads the state of the git working tree that a path belongs to.
 *
 * The repository is only read, through a copy of its index, so that a `git add` under way in it cannot show
 * half of itself. Refuses what cannot travel: submodules, bare repositories, files that cannot be read.
 */
export async function inspectTree(exec: Exec, input: InspectInput): Promise<WorkingTree> {
  const repository = await findRepository(exec, input.path, input.signal);
  const { git, topLevel } = repository;
  const indexCopy = await copyIndex(repository.paths.index, input.scratch);
  // A path that does not exist stands for an empty index.
  const env = { GIT_INDEX_FILE: indexCopy ?? join(input.scratch, 'no-index') };

  const entries = parseEntries((await git(['ls-files', '-s', '-v', '-z'], { env })).stdout);
  refuseSubmodules(entries);
  const [state, changed, others, filtered] = await Promise.all([
    readRepositoryState(repository),
    git(['diff-files', '--name-status', '-z'], { env }),
    git(['ls-files', '--others', '--exclude-standard', '-z'], { env }),
    filteredPaths(repository, entries, env),
  ]);
  const changes = parseChanged(changed.stdout);
  const unsure = new Set([...changes.keys(), ...filtered]);
  for (const entry of entries) {
    if (entry.stage > 0 || entry.isAssumedUnchanged || entry.isSkipped) unsure.add(entry.path);
  }

  const untracked = splitRaw(others.stdout);
  const added = input.includeUntracked ? untracked.filter((path) => !path.endsWith('/')) : [];
  for (const path of added) unsure.add(path);
  const paths = [...new Set([...entries.map((entry) => entry.path), ...added])].filter(isTreePath);
  return {
    repository,
    state,
    indexCopy,
    entries,
    files: await statTreeFiles(topLevel, paths, input.signal),
    unsure,
    touched: new Set([...changes].flatMap(([path, status]) => (status === 'M' ? [path] : []))),
    untracked: untracked.length - added.length,
    warnings: [
      ...state.warnings,
      ...(input.includeUntracked ? nestedWarnings(untracked) : []),
      ...(filtered.length > 0 ? [filterWarning(filtered)] : []),
    ],
  };
}

/** Throws what `prepare` would throw for this path before it touches a guest; nothing else happens. */
export async function checkTree(exec: Exec, path: string, signal: AbortSignal): Promise<Repository> {
  const repository = await findRepository(exec, path, signal);
  refuseSubmodules(parseEntries((await repository.git(['ls-files', '-s', '-v', '-z'])).stdout));
  return repository;
}

/**
 * Copies the index, with a modification time that is not later than the original's: git compares it with the
 * times of files to find those that changed within the same second, and would miss them otherwise.
 */
async function copyIndex(index: string, scratch: string): Promise<string | undefined> {
  const copy = join(scratch, 'index');
  try {
    const { mtimeMs } = await stat(index);
    await copyFile(index, copy);
    const seconds = Math.floor(mtimeMs / 1000);
    await utimes(copy, seconds, seconds);
    return copy;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Parses `git ls-files -s -v -z`: tag, mode, object and stage, then the path. Lower-case tags are assumed unchanged. */
function parseEntries(output: Buffer): IndexEntry[] {
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
function parseChanged(output: Buffer): Map<RawPath, string> {
  const fields = splitRaw(output);
  const changes = new Map<RawPath, string>();
  for (let at = 0; at + 1 < fields.length; at += 2) changes.set(fields[at + 1]!, fields[at]!);
  return changes;
}

const submoduleMode = '160000';

function refuseSubmodules(entries: readonly IndexEntry[]): void {
  const names = [
    ...new Set(entries.filter((entry) => entry.mode === submoduleMode).map((entry) => entry.path)),
  ];
  if (names.length === 0) return;
  const shown = names.slice(0, 5).map((name) => `"${displayPath(name)}"`);
  const list =
    names.length > shown.length
      ? `${shown.join(', ')} and ${names.length - shown.length} more`
      : shown.join(', ');
  const verb = names.length === 1 ? 'is a submodule' : 'are submodules';
  throw new BangerError('invalid_argument', `${list} ${verb}, which banger cannot send yet`, {
    hint: `Submodules are repositories of their own; send one with: banger workspace prepare ${displayPath(names[0]!)}`,
  });
}

/**
 * Tracked paths that go through a filter driver (LFS and the like) on this host. What git has stored of them
 * is not what lies in the working tree.
 */
async function filteredPaths(
  { config, git }: Repository,
  entries: readonly IndexEntry[],
  env: Readonly<Record<string, string>>,
): Promise<RawPath[]> {
  const drivers = new Set<string>();
  for (const name of config.keys()) {
    const match = /^filter\.([^]+)\.(?:clean|process)$/.exec(name);
    if (match) drivers.add(Buffer.from(match[1]!).toString('latin1'));
  }
  if (drivers.size === 0 || entries.length === 0) return [];
  const input = Buffer.from(entries.map((entry) => `${entry.path}\0`).join(''), 'latin1');
  const fields = splitRaw((await git(['check-attr', '-z', '--stdin', 'filter'], { env, input })).stdout);
  const filtered: RawPath[] = [];
  for (let at = 0; at + 2 < fields.length; at += 3) {
    if (drivers.has(fields[at + 2]!)) filtered.push(fields[at]!);
  }
  return filtered;
}

function nestedWarnings(untracked: readonly RawPath[]): string[] {
  return untracked
    .filter((path) => path.endsWith('/'))
    .map((path) => `"${displayPath(path)}" is a repository of its own and stays behind`);
}

function filterWarning(filtered: readonly RawPath[]): string {
  const count = filtered.length === 1 ? '1 file goes' : `${filtered.length} files go`;
  return `${count} through a git filter of this host, such as LFS: sent as in the working tree, shown as modified in the guest`;
}
