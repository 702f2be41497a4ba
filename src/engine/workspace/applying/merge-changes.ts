import { isSameEntry, type ChangedPath, type GitEntry } from '../guest-tree/changes-format.ts';
import { findRenames, type Renames } from './find-renames.ts';
import { submoduleMode } from '../host-tree/index-entries.ts';
import { mergeContent, type Versions } from './merge-content.ts';
import { misplacedFiles } from './misplaced-files.ts';
import { withoutCollisions } from './path-collisions.ts';
import { mergeDrivers, type MergeDriver } from './merge-drivers.ts';
import { displayPath, type RawPath } from '../host-tree/raw-path.ts';
import type { Repository } from '../host-tree/repository.ts';
import type { GitVariables } from '../host-tree/scratch-objects.ts';

export type MergeOutcome = 'applied' | 'merged' | 'present' | 'conflict';

/** Kinds of conflicts, as git names them. */
export type ConflictKind =
  | 'content'
  | 'add/add'
  | 'modify/delete'
  | 'rename/delete'
  | 'rename/rename'
  | 'file location'
  | 'file/directory'
  | 'distinct types'
  | 'submodule';

/** What becomes of one changed path on the host. */
export interface MergedPath {
  /** Of the file here: another than that of the change where the file was moved here */
  readonly path: RawPath;
  readonly outcome: MergeOutcome;
  readonly conflict?: ConflictKind;
  /** What is in conflict, in git's words */
  readonly reason?: string;
  /** What is there afterwards, absent when it is to be gone. A conflict has it only when it can be shown in the tree. */
  readonly result?: GitEntry;
  /** False for conflicts that cannot be shown: those stay as they are here */
  readonly isWritable: boolean;
}

export interface MergeInput {
  readonly repository: Repository;
  /** With an index that holds the host's tree as it is now */
  readonly env: GitVariables & { readonly GIT_INDEX_FILE: string };
  /** The same, by path */
  readonly now: ReadonlyMap<RawPath, GitEntry>;
  readonly scratch: string;
  /** For conflict markers */
  readonly vmName: string;
  /** Files that are there as well, and have nothing to do with what is merged but that their places are taken */
  readonly others: readonly RawPath[];
  /** Paths that the guest was sent; undefined when nobody knows any more, or when none of the changed ones is missing here */
  readonly sentPaths?: ReadonlyMap<RawPath, GitEntry>;
  /** Those with conflicts that somebody has not resolved in the guest */
  readonly unresolved: ReadonlySet<RawPath>;
}

/** The host's tree, and which files each side moved. */
interface Sides {
  readonly now: ReadonlyMap<RawPath, GitEntry>;
  readonly movedHere: Renames;
  readonly movedThere: Renames;
  /** Files that are new there, and where they would be if what is around them had been moved there, too */
  readonly misplaced: ReadonlyMap<RawPath, RawPath>;
  /** By path */
  readonly changes: ReadonlyMap<RawPath, ChangedPath>;
  readonly drivers: ReadonlyMap<RawPath, MergeDriver>;
}

/**
 * Merges a guest's changes with the host's tree, path by path, as git merges: `before` is the common base, and files
 * that either side moved are followed. Only objects are written; index and working tree stay as they are.
 */
export async function mergeChanges(
  changes: readonly ChangedPath[],
  input: MergeInput,
): Promise<MergedPath[]> {
  const sides = await readSides(changes, input);
  const origins = new Map([...sides.movedThere].map(([from, to]) => [to, from]));
  const merged: MergedPath[] = [];
  for (const change of changes) {
    const origin = sides.changes.get(origins.get(change.path) ?? '');
    const moved = origin && (await mergeMoved(change, origin, sides, input));
    merged.push(withUnresolved(moved ?? (await mergePath(change, sides, input)), change, input));
  }
  return keepOrigins(withoutCollisions(merged, sides.now, input), sides, input);
}

async function readSides(changes: readonly ChangedPath[], input: MergeInput): Promise<Sides> {
  const { now } = input;
  const byPath = new Map(changes.map((change) => [change.path, change]));
  const movedThere = await findRenames(
    {
      gone: filesOf(changes, ({ before, after }) => (after ? undefined : before)),
      added: filesOf(changes, ({ before, after }) => (before ? undefined : after)),
    },
    input,
  );
  const gone = filesOf(changes, ({ path, before }) => (now.has(path) ? undefined : before));
  const made = changes.flatMap(({ path, before, after }) =>
    after && !before && !now.has(path) ? [path] : [],
  );
  const sent = gone.size === 0 && made.length === 0 ? undefined : input.sentPaths;
  const isNew = (path: RawPath): boolean =>
    sent ? !sent.has(path) : byPath.has(path) && !byPath.get(path)!.before;
  const added = new Map(
    gone.size === 0 ? [] : [...now].filter(([path, each]) => isFile(each) && isNew(path)),
  );
  const movedHere = await findRenames({ gone, added }, input);
  const clashing = changes.filter(({ path, before }) => now.has(path) && !isSameEntry(now.get(path), before));
  const paths = [...clashing.map(({ path }) => path), ...movedThere.values(), ...movedHere.values()];
  const misplaced = sent ? misplacedFiles(made, { sent, now, changes: byPath }, input.repository) : new Map();
  return {
    now,
    movedHere,
    movedThere,
    misplaced,
    changes: byPath,
    drivers: await mergeDrivers(paths, input),
  };
}

function filesOf(
  changes: readonly ChangedPath[],
  choose: (change: ChangedPath) => GitEntry | undefined,
): Map<RawPath, GitEntry> {
  return new Map(
    changes.flatMap((change) => {
      const entry = choose(change);
      return entry && isFile(entry) ? [[change.path, entry] as const] : [];
    }),
  );
}

async function mergePath(
  { path, before, after }: ChangedPath,
  { now: tree, movedHere, movedThere, misplaced, changes, drivers }: Sides,
  input: MergeInput,
): Promise<MergedPath> {
  const now = tree.get(path);
  const name = displayPath(path);
  const vm = `VM "${input.vmName}"`;
  const elsewhere = now ? undefined : movedHere.get(path);
  if (elsewhere !== undefined && !changes.has(elsewhere)) {
    if (!after && !movedThere.has(path)) {
      const reason = `${name} renamed to ${displayPath(elsewhere)} here, but deleted in ${vm}`;
      return conflict(path, 'rename/delete', reason);
    }
    if (before && after && isFile(after)) {
      const versions = { base: before, now: tree.get(elsewhere)!, after };
      return mergeFile(elsewhere, versions, input, drivers.get(elsewhere));
    }
  }
  const better = misplaced.get(path);
  if (better !== undefined) {
    // Taken over to there before, as a conflict that was written is.
    if (isSameEntry(tree.get(better), after))
      return { path, outcome: 'present', result: undefined, isWritable: false };
    const reason = `${name} added in ${vm} inside a directory that was renamed here, suggesting it should perhaps be moved to ${displayPath(better)}`;
    const isFree = !tree.has(better) && !changes.has(better) && !input.others.includes(better);
    return {
      ...conflict(isFree ? better : path, 'file location', reason),
      result: after,
      isWritable: isFree,
    };
  }
  if (isSameEntry(now, after)) return { path, outcome: 'present', result: now, isWritable: false };
  if (isSameEntry(now, before)) return { path, outcome: 'applied', result: after, isWritable: true };
  if (!after) {
    // What is in it goes with the file, to where that was moved.
    const target = movedThere.get(path);
    if (target !== undefined && !tree.has(target) && isFile(now!))
      return { path, outcome: 'applied', isWritable: true };
    return conflict(path, 'modify/delete', `${name} deleted in ${vm} and modified here`);
  }
  if (!now) {
    const reason = `${name} deleted here and modified in ${vm}`;
    return { ...conflict(path, 'modify/delete', reason), result: after, isWritable: true };
  }
  if (now.mode === submoduleMode)
    return conflict(path, 'submodule', `${name} is a submodule here, and a file in ${vm}`);
  if (!isFile(now) || !isFile(after))
    return conflict(path, 'distinct types', `${name} had different types on each side`);
  const base = before && isFile(before) ? before : undefined;
  return mergeFile(path, { base, now, after }, input, drivers.get(path));
}

/** Merges a file that the guest moved, with what the host did to it. Undefined when that is nothing. */
async function mergeMoved(
  { path, after }: ChangedPath,
  origin: ChangedPath,
  { now, movedHere, drivers }: Sides,
  input: MergeInput,
): Promise<MergedPath | undefined> {
  const [there, before] = [now.get(path), now.get(origin.path)];
  const base = origin.before!;
  if (isSameEntry(there, after)) return undefined;
  const merge = (version: GitEntry): Promise<MergedPath> =>
    mergeFile(path, { base, now: version, after: after! }, input, drivers.get(path));
  // Both moved it to one place; another file there has nothing to do with it.
  if (there) return movedHere.get(origin.path) === path && isFile(there) ? merge(there) : undefined;
  const [from, to] = [displayPath(origin.path), displayPath(path)];
  if (!before) {
    const elsewhere = movedHere.get(origin.path);
    const moved = `${from} renamed to ${to} in VM "${input.vmName}"`;
    const each =
      elsewhere === undefined
        ? conflict(path, 'rename/delete', `${moved}, but deleted here`)
        : conflict(path, 'rename/rename', `${moved} and to ${displayPath(elsewhere)} here`);
    return { ...each, result: after, isWritable: true };
  }
  if (isSameEntry(before, base)) return undefined;
  if (!isFile(before)) return conflict(path, 'distinct types', `${from} had different types on each side`);
  const merged = await merge(before);
  return merged.outcome === 'present' ? { ...merged, outcome: 'merged', isWritable: true } : merged;
}

async function mergeFile(
  path: RawPath,
  versions: Versions,
  input: MergeInput,
  driver: MergeDriver = 'text',
): Promise<MergedPath> {
  const name = displayPath(path);
  const merged = await mergeContent(versions, input, driver);
  const kind = versions.base ? 'content' : 'add/add';
  if (merged === 'marked')
    return conflict(path, kind, `Merge conflict in ${name}, which has conflict markers: resolve those first`);
  if (typeof merged === 'string') {
    const what = merged === 'binary' ? 'binary files' : 'files that large';
    return conflict(path, kind, `Cannot merge ${what}: ${name} (here vs. VM "${input.vmName}")`);
  }
  const { result, isClean } = merged;
  if (!isClean) return { ...conflict(path, kind, `Merge conflict in ${name}`), result, isWritable: true };
  return isSameEntry(result, versions.now)
    ? { path, outcome: 'present', result, isWritable: false }
    : { path, outcome: 'merged', result, isWritable: true };
}

function conflict(path: RawPath, kind: ConflictKind, reason: string): MergedPath {
  return { path, outcome: 'conflict', conflict: kind, reason, isWritable: false };
}

/** Conflict markers that are in a file of the guest are no content to take over without being asked. */
function withUnresolved(merged: MergedPath, { path }: ChangedPath, input: MergeInput): MergedPath {
  if (!input.unresolved.has(path) || merged.outcome === 'conflict' || merged.outcome === 'present')
    return merged;
  const reason = `Merge conflict in ${displayPath(merged.path)}, which nobody has marked as resolved (git add) in VM "${input.vmName}"`;
  return { ...merged, outcome: 'conflict', conflict: 'content', reason };
}

/** A file stays where it is when it cannot be written to where the guest moved it. */
function keepOrigins(
  merged: readonly MergedPath[],
  { movedThere }: Sides,
  { vmName }: MergeInput,
): MergedPath[] {
  const byPath = new Map(merged.map((each) => [each.path, each]));
  return merged.map((each) => {
    const target = byPath.get(movedThere.get(each.path) ?? '');
    if (each.outcome !== 'applied' || target?.outcome !== 'conflict' || target.isWritable) return each;
    const [from, to] = [displayPath(each.path), displayPath(target.path)];
    return conflict(
      each.path,
      'modify/delete',
      `${from} renamed to ${to} in VM "${vmName}", where it cannot be written here`,
    );
  });
}

function isFile({ mode }: GitEntry): boolean {
  return mode.startsWith('100');
}
