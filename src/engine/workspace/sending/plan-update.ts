import type { SentFile } from './manifest.ts';
import { findMisplaced, type MovedDirectory } from './moved-directories.ts';
import type { RawPath } from '../host-tree/raw-path.ts';
import type { ChangedPath } from '../guest-tree/changes-format.ts';

/** What has to happen to the files of a guest's workspace. */
export interface FilePlan {
  /** Files whose content is sent */
  readonly write: ReadonlySet<RawPath>;
  readonly remove: ReadonlySet<RawPath>;
  /** Files of which only the permissions differ */
  readonly permissions: ReadonlySet<RawPath>;
  /** Files that guest and host both changed, in different ways */
  readonly conflicts: readonly RawPath[];
  /** Those among them of which the host has the directory that the guest has moved */
  readonly misplaced: ReadonlyMap<RawPath, MovedDirectory>;
  /** Files that the guest alone changed, and which stay as they are there */
  readonly kept: readonly RawPath[];
}

export interface PlanInput {
  readonly before: ReadonlyMap<RawPath, SentFile>;
  readonly after: ReadonlyMap<RawPath, SentFile>;
  /** What the guest changed since */
  readonly guest: readonly ChangedPath[];
  /** Git converts line ends and the like: files may differ though git has one name for them */
  readonly converts: boolean;
}

/** Compares what was sent, what is to be there, and what the guest made of it. */
export function planFiles({ before, after, guest, converts }: PlanInput): FilePlan {
  const write = new Set<RawPath>();
  const permissions = new Set<RawPath>();
  for (const [path, now] of after) {
    const was = before.get(path);
    if (!was || isOther(was, now, converts)) write.add(path);
    else if (arePermissionsOther(was, now)) permissions.add(path);
  }
  const remove = new Set<RawPath>();
  for (const path of before.keys()) if (!after.has(path)) remove.add(path);

  const conflicts: RawPath[] = [];
  const kept: RawPath[] = [];
  const touched = directoriesOf([...write, ...remove]);
  for (const change of guest) {
    const { path } = change;
    if (isAlready(change, after.get(path))) {
      write.delete(path);
      remove.delete(path);
      permissions.delete(path);
    } else if (permissions.has(path) && before.get(path)!.mode === after.get(path)!.mode) {
      // Bits that git does not keep are no reason to stop.
      permissions.delete(path);
      kept.push(path);
    } else if (write.has(path) || remove.has(path) || permissions.has(path)) {
      conflicts.push(path);
    } else if (change.after && (touched.has(path) || parentsOf(path).some((parent) => write.has(parent)))) {
      // One side has a file where the other has a directory.
      conflicts.push(path);
    } else {
      kept.push(path);
    }
  }
  // Where the host has moved the directory, too, its new files are where it wants them.
  const added = [...write].filter((path) => !before.has(path));
  const moved = findMisplaced(added, before, guest);
  const stays = moved.size === 0 ? [] : [...before.keys()].filter((path) => after.has(path));
  const found = [...moved].filter(([, { from }]) => stays.some((path) => path.startsWith(`${from}/`)));
  const misplaced = new Map(found);
  return { write, remove, permissions, conflicts: [...conflicts, ...misplaced.keys()], misplaced, kept };
}

/** The plan when the guest's changes are to go: its files become the host's. */
export function overwriting(plan: FilePlan, after: ReadonlyMap<RawPath, SentFile>): FilePlan {
  const write = new Set(plan.write);
  const remove = new Set(plan.remove);
  for (const path of [...plan.conflicts, ...plan.kept]) {
    if (after.has(path)) write.add(path);
    else remove.add(path);
  }
  return { ...plan, write, remove, conflicts: [], misplaced: new Map(), kept: [] };
}

/** The plan when the guest's changes stay, also where the host has others. */
export function keeping(plan: FilePlan): FilePlan {
  const write = new Set(plan.write);
  const remove = new Set(plan.remove);
  const permissions = new Set(plan.permissions);
  for (const path of plan.conflicts) {
    write.delete(path);
    remove.delete(path);
    permissions.delete(path);
    for (const parent of parentsOf(path)) write.delete(parent);
    for (const written of write) if (written.startsWith(`${path}/`)) write.delete(written);
  }
  return { ...plan, write, remove, permissions };
}

function isOther(was: SentFile, now: SentFile, converts: boolean): boolean {
  if (was.oid !== now.oid || kindOf(was) !== kindOf(now)) return true;
  if (was.sizeBytes !== undefined && was.sizeBytes !== now.sizeBytes) return true;
  return converts && was.stamp !== now.stamp;
}

function arePermissionsOther(was: SentFile, now: SentFile): boolean {
  return was.permissions === undefined ? was.mode !== now.mode : was.permissions !== now.permissions;
}

/** File, symlink or repository. */
function kindOf({ mode }: SentFile): string {
  return mode.slice(0, 3);
}

function isAlready({ after: inGuest }: ChangedPath, wanted: SentFile | undefined): boolean {
  if (!inGuest || !wanted) return !inGuest && !wanted;
  return inGuest.oid === wanted.oid && inGuest.mode === wanted.mode;
}

/** The directories that paths are in. */
export function directoriesOf(paths: Iterable<RawPath>): Set<RawPath> {
  const found = new Set<RawPath>();
  for (const path of paths) {
    // From the file up, as far as nobody has been.
    for (let at = path.lastIndexOf('/'); at !== -1; at = path.lastIndexOf('/', at - 1)) {
      const directory = path.slice(0, at);
      if (found.has(directory)) break;
      found.add(directory);
    }
  }
  return found;
}

/** The directories that a path is in, from the top. */
export function parentsOf(path: RawPath): RawPath[] {
  const parts = path.split('/');
  return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join('/'));
}
