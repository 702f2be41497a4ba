import type { AppliedPaths } from '../applying/since-applied.ts';
import { isSameEntry, type ChangedPath, type GitEntry } from '../guest-tree/changes-format.ts';
import { askGit } from '../guest-tree/ask-guest.ts';
import type { GuestWorkspace } from '../guest-tree/guest-changes.ts';
import { splitRaw, type RawPath } from '../host-tree/raw-path.ts';
import type { Manifest } from './manifest.ts';

/** Commits of a guest of which the host's tree has all that they changed. */
export interface TakenCommits {
  /** The last of them, at which the branch is that was sent */
  readonly head: string;
  /** What they made of files */
  readonly files: ReadonlyMap<RawPath, GitEntry | undefined>;
}

/** Where they stay when the branch goes on without them. */
export function keptReference({ head }: TakenCommits): string {
  return `refs/banger/before/${head.slice(0, 12)}`;
}

/**
 * Finds a guest's own commits, if they are on the branch that was sent, after the commit that was sent, and the host's tree
 * has of each file what they made of it. Then they are only history. Undefined where it is otherwise.
 */
export async function findTakenCommits(
  { workspace, known, manifest, changes }: There,
  { held, files }: { readonly held: AppliedPaths; readonly files: ReadonlyMap<RawPath, GitEntry> },
): Promise<TakenCommits | undefined> {
  const said = await askGit(workspace, ['rev-parse', 'HEAD^{commit}', '--symbolic-full-name', 'HEAD']);
  const [head, name] = said?.toString('latin1').split('\n') ?? [];
  const sentHead = manifest.texts?.['HEAD'];
  if (!/^[0-9a-f]{40,64}$/.test(head ?? '') || sentHead !== `ref: ${name}\n` || known.head === undefined)
    return undefined;
  if (!(await askGit(workspace, ['merge-base', '--is-ancestor', known.head, head!]))) return undefined;
  // What the host had not committed is in no commit of its own.
  const [sinceSent, sinceHead] = await Promise.all(
    [known.baseTree, known.head].map((base) => entriesSince(workspace, base, head!)),
  );
  if (!sinceSent || !sinceHead) return undefined;
  const made = new Map([...sinceSent].filter(([path]) => sinceHead.has(path)));
  const now = new Map(changes.paths.map(({ path, after }) => [path, after] as const));
  const isTaken = ([path, entry]: readonly [RawPath, GitEntry | undefined]): boolean => {
    // It has been sent what became of it here, or undone it itself.
    if (!now.has(path) || isSameEntry(files.get(path), entry)) return true;
    const taken = held.get(path);
    // What it committed in between, it has written over itself.
    const versions = [entry, now.get(path)];
    if (taken === undefined) return false;
    const known = taken.previous ? [taken.guest, taken.previous] : [taken.guest];
    return versions.some((each) => isOneOf(each, known));
  };
  return [...made].every(isTaken) ? { head: head!, files: made } : undefined;
}

function isOneOf(entry: GitEntry | undefined, others: readonly (GitEntry | undefined)[]): boolean {
  return others.some((each) => isSameEntry(each, entry));
}

interface There {
  readonly workspace: GuestWorkspace;
  readonly known: { readonly head?: string; readonly baseTree: string };
  readonly manifest: Manifest;
  readonly changes: { readonly paths: readonly ChangedPath[] };
}

/** What is different in a commit, absent where it is gone. */
async function entriesSince(
  workspace: GuestWorkspace,
  base: string,
  commit: string,
): Promise<Map<RawPath, GitEntry | undefined> | undefined> {
  const listed = await askGit(workspace, [
    'diff-tree',
    '-r',
    '-z',
    '--raw',
    '--no-renames',
    '--no-abbrev',
    base,
    commit,
  ]);
  if (!listed) return undefined;
  const fields = splitRaw(listed);
  const entries = new Map<RawPath, GitEntry | undefined>();
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const [, mode, oid] = /^:\d+ (\d+) [0-9a-f]+ ([0-9a-f]+) [A-Z]/.exec(fields[at]!) ?? [];
    if (mode === undefined) return undefined;
    entries.set(fields[at + 1]!, Number(mode) === 0 ? undefined : { mode, oid: oid! });
  }
  return entries;
}
