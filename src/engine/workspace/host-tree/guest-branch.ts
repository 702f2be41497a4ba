import { mkdir, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError } from '../../../errors.ts';
import { filteredPaths } from './filtered-paths.ts';
import { copyIndexFile, parseChanged, parseEntries, submoduleMode } from './index-entries.ts';
import type { WorkingTree } from './inspect-tree.ts';
import { laterThanFiltered } from '../sending/guest-index.ts';
import { parentsOf } from '../sending/plan-update.ts';
import { displayPath, hostBytes, splitRaw, type RawPath } from './raw-path.ts';
import type { Repository } from './repository.ts';
import { isUnderWayFile } from './repository-state.ts';
import { statTreeFiles } from './tree-files.ts';

/** A branch that only the guest gets. */
export interface GuestBranch {
  readonly name: string;
  /** What it begins at, in git's words; absent: HEAD */
  readonly from?: string;
}

/** The tree here cannot be on that branch for now; changing the tree, or git's branches here, puts it right. */
export class CannotSwitchError extends BangerError {}

/** The same branch, for good: what it begins at is named by its commit. Throws as `onGuestBranch`. */
export async function withFixedStart(repository: Repository, branch: GuestBranch): Promise<GuestBranch> {
  const { head } = await onGuestBranch(repository, branch);
  return branch.from === undefined ? branch : { ...branch, from: head };
}

/** The repository as it would be after `git switch -c`; throws what git would say. Nothing is changed. */
export async function onGuestBranch(
  repository: Repository,
  { name, from }: GuestBranch,
): Promise<Repository> {
  const { git } = repository;
  const check = await git(['check-ref-format', '--branch', name], { okExitCodes: [1, 128] });
  if (check.exitCode !== 0 || check.stdout.toString('utf8').trim() !== name)
    throw new BangerError('invalid_argument', `"${name}" is not a name for a branch`, {
      hint: 'Names of branches are like: fix-login or team/topic',
    });
  const there = await git(['rev-parse', '-q', '--verify', `refs/heads/${name}`], { okExitCodes: [1, 128] });
  if (there.exitCode === 0 || repository.branch === name)
    throw new CannotSwitchError('already_exists', `There is a branch "${name}" here already`, {
      hint: `Choose another name for the guest's, or send that one: git switch ${name}`,
    });
  if (from === undefined) return { ...repository, branch: name };
  const found = await git(['rev-parse', '-q', '--verify', `${from}^{commit}`], { okExitCodes: [1, 128] });
  const head = found.stdout.toString('utf8').trim();
  if (from.startsWith('-') || head === '')
    throw new BangerError('not_found', `"${from}" is not a commit of "${repository.topLevel}"`, {
      hint: 'See what there is with: git log --oneline --branches',
    });
  return { ...repository, branch: name, head };
}

/**
 * The working tree as it would be after `git switch` from a commit to the one that its repository names as HEAD:
 * changes are carried along, and throw when they are in files that differ between the two. The index is a new one, and
 * files that differ are made in the scratch directory.
 */
export async function switchTree(
  tree: WorkingTree,
  {
    from,
    scratch,
    signal,
  }: { readonly from?: string; readonly scratch: string; readonly signal: AbortSignal },
): Promise<WorkingTree> {
  const { repository, indexCopy } = tree;
  const { git, head, branch } = repository;
  if (head === undefined || head === from) return tree;
  if (from === undefined || indexCopy === undefined)
    throw refusal(repository, 'a branch without commits is checked out', 'Commit first');
  if (tree.state.files.some(({ path }) => isUnderWayFile(path)))
    throw refusal(
      repository,
      'git is in the middle of a merge or the like',
      'Finish it first; see: git status',
    );
  if (tree.entries.some(({ isSkipped }) => isSkipped))
    throw refusal(repository, 'its checkout is sparse', 'Check out all of it: git sparse-checkout disable');

  const changed = parseRaw(
    (await git(['diff-tree', '-r', '--raw', '--no-renames', '-z', from, head])).stdout,
  );
  if (changed.some(({ modes }) => modes.includes(submoduleMode)))
    throw refusal(
      repository,
      'a submodule is at another commit there',
      `Switch here instead: git switch -c ${branch} ${head}`,
    );
  refuseDirt(await dirtyPaths(tree, from), changed, repository);

  const index = join(scratch, 'switched-index');
  await copyIndexFile(indexCopy, index);
  // Git would note of what it cannot compare now that it is to be read later.
  const later = laterThanFiltered(tree);
  if (tree.filtered.size > 0) await utimes(index, later, later);
  const env = { GIT_INDEX_FILE: index };
  // Removals first: a directory may be in the way of a file.
  const lines = [
    ...changed.map(({ path }) => `0 ${'0'.repeat(head.length)}\t${path}\0`),
    ...changed.flatMap(({ path, mode, oid }) => (mode === '000000' ? [] : [`${mode} ${oid}\t${path}\0`])),
  ];
  await git(['update-index', '-z', '--index-info'], { env, input: latin1(lines) });

  const top = join(scratch, 'switched');
  await mkdir(top, { mode: 0o700 });
  const present = changed.filter(({ mode }) => mode !== '000000').map(({ path }) => path);
  await git(['checkout-index', `--prefix=${top}/`, '-z', '--stdin'], {
    env,
    input: latin1(present.map((path) => `${path}\0`)),
  });
  const made = await statTreeFiles(top, present, signal);
  const isChanged = new Set(changed.map(({ path }) => path));
  const keep = (path: RawPath): boolean => !isChanged.has(path);
  return {
    ...tree,
    indexCopy: index,
    entries: parseEntries((await git(['ls-files', '-s', '-v', '-z'], { env })).stdout),
    files: [
      ...tree.files.filter(({ path }) => keep(path)),
      ...made.files.map((file) => ({ ...file, source: hostBytes(top, file.path) })),
    ],
    unsure: new Set([...tree.unsure].filter(keep)),
    touched: new Set([...tree.touched].filter(keep)),
    filtered: new Set([...tree.filtered].filter(keep)),
    // Filters do not run over what is not the user's to run them over: LFS would ask its server.
    asStored: await filteredPaths(repository, present, env, 'index'),
  };
}

interface ChangedEntry {
  readonly path: RawPath;
  /** Of the other commit; zeros when it has no such file */
  readonly mode: string;
  readonly oid: string;
  readonly modes: readonly string[];
}

/** Parses `git diff-tree --raw -z`. */
function parseRaw(output: Buffer): ChangedEntry[] {
  const fields = splitRaw(output);
  const changed: ChangedEntry[] = [];
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const [before, mode, , oid] = fields[at]!.slice(1).split(' ');
    changed.push({ path: fields[at + 1]!, mode: mode!, oid: oid!, modes: [before!, mode!] });
  }
  return changed;
}

/** Everything that is not as HEAD has it: staged, changed, removed, conflicted, or sent though git does not track it. */
async function dirtyPaths(tree: WorkingTree, head: string): Promise<RawPath[]> {
  const env = { GIT_INDEX_FILE: tree.indexCopy! };
  const { git } = tree.repository;
  const list = async (...args: string[]) => (await git(args, { env })).stdout;
  const [staged, changed] = await Promise.all([
    list('diff-index', '--cached', '--name-only', '--no-renames', '--ignore-submodules=all', '-z', head),
    list('diff-files', '--name-status', '--ignore-submodules=all', '-z'),
  ]);
  // Without its filter, git takes what it has to read for changed.
  const isDirty = (path: RawPath, status: string): boolean =>
    status !== 'M' || !tree.filtered.has(path) || tree.touched.has(path);
  const dirty = [...parseChanged(changed)].flatMap(([path, status]) => (isDirty(path, status) ? [path] : []));
  const tracked = new Set(tree.entries.map(({ path }) => path));
  const untracked = tree.files.map(({ path }) => path).filter((path) => !tracked.has(path));
  return [...new Set([...splitRaw(staged), ...dirty, ...untracked])];
}

function refuseDirt(
  dirty: readonly RawPath[],
  changed: readonly ChangedEntry[],
  repository: Repository,
): void {
  const isIn = new Set(changed.map(({ path }) => path));
  const parents = new Set(changed.flatMap(({ path }) => parentsOf(path)));
  const lost = dirty.filter(
    (path) => [path, ...parentsOf(path)].some((each) => isIn.has(each)) || parents.has(path),
  );
  if (lost.length === 0) return;
  const names = lost.slice(0, 5).map((path) => `"${displayPath(path)}"`);
  const more = lost.length > names.length ? ` and ${lost.length - names.length} more` : '';
  throw refusal(
    repository,
    `what you changed is different there: ${names.join(', ')}${more}`,
    'Commit or stash those changes first, or leave out --from',
  );
}

function refusal({ branch, topLevel }: Repository, why: string, hint: string): BangerError {
  return new CannotSwitchError(
    'invalid_state',
    `"${topLevel}" cannot be sent as branch "${branch}" from another commit: ${why}`,
    { hint },
  );
}

function latin1(lines: readonly string[]): Buffer {
  return Buffer.from(lines.join(''), 'latin1');
}
