import type { Operation } from '../../operations.ts';
import { findExisting } from '../guest-tree/ask-guest.ts';
import { isSameEntry, type ChangedPath, type GitEntry } from '../guest-tree/changes-format.ts';
import { fetchBlobs, findLostBlobs, type FetchTarget } from '../guest-tree/fetch-blobs.ts';
import type { GuestChanges, GuestWorkspace } from '../guest-tree/guest-changes.ts';
import type { RawPath } from '../host-tree/raw-path.ts';
import { bringTextsFrom } from './bring-texts.ts';
import { heldHere } from './held-here.ts';
import { isInside, sinceApplied, type Applied, type AppliedPaths } from './since-applied.ts';

export interface LaterChanges {
  /** What went into the host's tree before, as far as it still has it */
  readonly held: AppliedPaths;
  /** Those of it that have conflict markers still */
  readonly marked: ReadonlySet<RawPath>;
  /** What is to be merged, each compared with what went in last; their content is in the scratch objects */
  readonly later: readonly ChangedPath[];
  /** The guest's changes that went in before, as they are */
  readonly before: readonly ChangedPath[];
}

export interface LaterInput extends FetchTarget {
  readonly workspace: GuestWorkspace;
  readonly changes: GuestChanges;
  readonly applied: Applied;
  /** The host's tree */
  readonly now: ReadonlyMap<RawPath, GitEntry>;
}

/** Finds out what a guest changed since its changes were applied, and fetches it. */
export async function findLater(
  { workspace, changes, applied, now, ...target }: LaterInput,
  operation: Operation,
): Promise<LaterChanges> {
  const bring = bringTextsFrom(workspace, target, operation);
  const here = await heldHere(applied, { ...target, now, bring });
  const held = await withoutLost(here.held, { workspace, target });
  const unlisted = await unlistedPaths(held, changes, workspace);
  const later = sinceApplied(changes.paths, held, (path) => !unlisted(path));
  const oids = later.flatMap(({ before, after }) => [before?.oid, after?.oid]);
  const wanted = [...new Set(oids.filter((oid) => oid !== undefined))];
  await fetchBlobs(workspace, wanted, target, operation);
  const isHeld = ({ path, after }: ChangedPath): boolean =>
    held.has(path) && isSameEntry(held.get(path)!.guest, after);
  const marked = new Set([...here.marked].filter((path) => held.has(path)));
  return { held, marked, later, before: changes.paths.filter(isHeld) };
}

/**
 * Leaves out those whose content as it was applied is nowhere any more: the host has merged it, and the guest's git has
 * thrown it away. They are compared with what was sent, as if they had not been applied.
 */
async function withoutLost(
  held: AppliedPaths,
  { workspace, target }: { readonly workspace: GuestWorkspace; readonly target: FetchTarget },
): Promise<AppliedPaths> {
  const oids = [...held.values()].flatMap(({ guest }) => (guest ? [guest.oid] : []));
  const lost = await findLostBlobs(workspace, [...new Set(oids)], target);
  return lost.size === 0
    ? held
    : new Map([...held].filter(([, { guest }]) => !guest || !lost.has(guest.oid)));
}

/** Tells of which paths the guest's list says nothing though they may be there: git ignores them, or is another's. */
async function unlistedPaths(
  held: AppliedPaths,
  { paths, nested }: GuestChanges,
  workspace: GuestWorkspace,
): Promise<(path: RawPath) => boolean> {
  const listed = new Set(paths.map(({ path }) => path));
  // What was sent is listed also when git ignores it.
  const asked = [...held].flatMap(([path, { sent }]) => (sent || listed.has(path) ? [] : [path]));
  const ignored = await findExisting(workspace, asked);
  return (path) => ignored.has(path) || isInside(path, nested);
}
