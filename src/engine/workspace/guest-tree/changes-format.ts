import { BangerError } from '../../../errors.ts';
import type { WorkspaceChange } from '../../rpc/workspace-methods.ts';
import { displayPath, isTreePath, pathText, unquotedPath, type RawPath } from '../host-tree/raw-path.ts';

/** One side of a changed path, as git has it. */
export interface GitEntry {
  /** Octal, such as `100644` */
  readonly mode: string;
  readonly oid: string;
}

/** Whether both are the same, or there is neither. */
export function isSameEntry(one: GitEntry | undefined, other: GitEntry | undefined): boolean {
  return one?.mode === other?.mode && one?.oid === other?.oid;
}

/** A changed path. A side is absent when the path does not exist there. */
export interface ChangedPath {
  readonly path: RawPath;
  readonly before?: GitEntry;
  readonly after?: GitEntry;
}

export interface ListedChanges {
  readonly files: readonly WorkspaceChange[];
  /** The same paths in the same order, for git */
  readonly paths: readonly ChangedPath[];
  /** Repositories inside the workspace; git sees them as one thing each, so that they are not in a patch */
  readonly nested: readonly RawPath[];
}

export interface ParsedChanges extends ListedChanges {
  /** What git is in the middle of there */
  readonly underWay: readonly UnderWay[];
  /** Files that its index has conflicts of */
  readonly unresolved: readonly RawPath[];
}

/** What git can be in the middle of, by what is in its directory then. */
export const underWayMarks = {
  MERGE_HEAD: 'merge',
  CHERRY_PICK_HEAD: 'cherry-pick',
  REVERT_HEAD: 'revert',
  'rebase-merge': 'rebase',
  'rebase-apply': 'am',
} as const;
export type UnderWay = (typeof underWayMarks)[keyof typeof underWayMarks];

export function isUnderWay(word: string): word is UnderWay {
  return Object.values<string>(underWayMarks).includes(word);
}

const statuses = { A: 'added', D: 'deleted', M: 'modified', T: 'type-changed' } as const;
const nestedMode = '160000';
/** Those that git has: none, file, executable file, symlink, and a repository of its own. */
const modes = new Set(['000000', '100644', '100755', '120000', nestedMode]);

/**
 * Parses `git diff-index --raw --numstat` of a guest. Undefined when it is anything else: a guest may answer what it
 * likes. A path that leads out of a working tree, or into its repository, comes no further than here: it throws.
 */
export function parseChanges(output: Buffer): ListedChanges | undefined {
  if (output.length > 0 && output.at(-1) !== 0x0a) return undefined;
  const lines = output.toString('latin1').split('\n').slice(0, -1);
  const changes = new Map<RawPath, WorkspaceChange>();
  const sides = new Map<RawPath, ChangedPath>();
  const nested: RawPath[] = [];
  for (const line of lines) {
    const raw = /^:(\d{6}) (\d{6}) ([0-9a-f]{40,64}) ([0-9a-f]{40,64}) ([ADMT])\t(.+)$/.exec(line);
    const numbers = raw ? undefined : /^(\d{1,15}|-)\t(\d{1,15}|-)\t(.+)$/.exec(line);
    const path = unquotedPath(raw?.[6] ?? numbers?.[3] ?? '');
    if (path === undefined) return undefined;
    const known = changes.get(path);
    if (raw) {
      if (!isTreePath(path)) throw impossiblePath(path);
      if (known) return undefined;
      const [, oldMode, newMode, oldOid, newOid, status] = raw as unknown as string[];
      if (![oldMode, newMode].every((mode) => modes.has(mode!))) return undefined;
      if (oldMode === nestedMode || newMode === nestedMode) nested.push(path);
      changes.set(path, { path: pathText(path), status: statuses[status as keyof typeof statuses] });
      sides.set(path, { path, before: side(oldMode!, oldOid!), after: side(newMode!, newOid!) });
    } else {
      if (!numbers || !known) return undefined;
      if (numbers[1] === '-' || numbers[2] === '-') continue;
      changes.set(path, { ...known, added: Number(numbers[1]), removed: Number(numbers[2]) });
    }
  }
  for (const path of nested) {
    changes.delete(path);
    sides.delete(path);
  }
  return { files: [...changes.values()], paths: [...sides.values()], nested };
}

/** What git calls a change of this kind. */
export function statusOf({ before, after }: ChangedPath): WorkspaceChange['status'] {
  if (!before) return 'added';
  if (!after) return 'deleted';
  // A file and an executable one are of one type.
  return before.mode.slice(0, 3) === after.mode.slice(0, 3) ? 'modified' : 'type-changed';
}

/** No git has such a path in a tree: something else has answered for it. */
export function impossiblePath(path: RawPath): BangerError {
  return new BangerError(
    'command_failed',
    `The VM says that it changed "${displayPath(path)}", a path that no working tree has; nothing of it is taken`,
    { hint: 'Do not trust what is in that VM: its git has been tampered with' },
  );
}

function side(mode: string, oid: string): GitEntry | undefined {
  return mode === '000000' ? undefined : { mode, oid };
}
