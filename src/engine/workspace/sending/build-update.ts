import type { AppliedRecord } from '../applying/applied-record.ts';
import type { BringTexts } from '../applying/bring-texts.ts';
import { findTaken, type Held } from '../applying/held-here.ts';
import { isInside, sinceApplied, withApplied, type AppliedPaths } from '../applying/since-applied.ts';
import { isSameEntry, type ChangedPath } from '../guest-tree/changes-format.ts';
import type { GuestChanges } from '../guest-tree/guest-changes.ts';
import type { AskedPaths } from '../guest-tree/ask-guest.ts';
import { assembleUpdate, type Update } from './assemble-update.ts';
import { newPaths } from './new-paths.ts';
import type { CanMakeBlobs, MadeBlob } from './made-blobs.ts';
import { packMissing } from './pack-missing.ts';
import type { WorkingTree } from '../host-tree/inspect-tree.ts';
import type { Manifest, SentFile } from './manifest.ts';
import { planHistory, type History, type HistoryInput } from './plan-history.ts';
import { keeping, overwriting, planFiles, type FilePlan } from './plan-update.ts';
import type { RawPath } from '../host-tree/raw-path.ts';
import { convertsContent, describeIndex, sentFiles, substituteFiles } from '../host-tree/sent-files.ts';
import type { Snapshot } from '../host-tree/snapshot.ts';
import type { TakenCommits } from './taken-commits.ts';

/** What to do where guest and host both changed a file. */
export type ConflictPolicy = 'stop' | 'overwrite' | 'keep';

/** What an update is made from, as far as the host alone knows it. */
export interface DraftInput extends Pick<HistoryInput, 'previousHead' | 'fullHistory'> {
  readonly manifest: Manifest;
  readonly snapshot: Snapshot;
  /** Of the guest; absent: no */
  readonly canMakeBlobs?: CanMakeBlobs;
}

export interface UpdateInput extends Pick<HistoryInput, 'isHeadLost'> {
  /** What the guest changed since */
  readonly changes: Pick<GuestChanges, 'paths' | 'nested'>;
  /** What of that went into the host's tree */
  readonly applied?: AppliedRecord;
  /** Gets what is compared of that */
  readonly bring: BringTexts;
  /**
   * Tells what is in a guest at paths where nothing was sent, and which git does not list: it ignores them. Below
   * those of `files`, too.
   */
  readonly findIgnored: (paths: AskedPaths) => Promise<readonly ChangedPath[]>;
  /** Finds the guest's own commits, where it has some, if all of them is held here */
  readonly findTaken?: (
    here: Pick<Held, 'held'> & Pick<Manifest, 'files'>,
  ) => Promise<TakenCommits | undefined>;
  readonly policy: ConflictPolicy;
  /** Commits of the host at which branches of the guest were found */
  readonly knownCommits: readonly string[];
  readonly token: string;
}

/** Files that guest and host both changed, when these were to stop the update. */
export interface Conflicts extends Pick<FilePlan, 'conflicts' | 'misplaced'> {
  /** Those among them in which the host has conflict markers */
  readonly marked: ReadonlySet<RawPath>;
  /** Those of which something was applied that is not here any more, not all of it */
  readonly undone: ReadonlySet<RawPath>;
}

/** The part of an update that does not depend on what the guest made of the tree. */
export interface Draft extends DraftInput {
  readonly files: ReadonlyMap<RawPath, SentFile>;
  readonly history: History;
  /** Of the index; see `Manifest` */
  readonly index?: string;
  readonly isIndexSame: boolean;
  /** Files with the objects that the guest lacks */
  readonly pack: readonly string[];
  /** Those among them that it makes of files that it gets */
  readonly made: readonly MadeBlob[];
}

/** Begins an update, so that a guest can be asked meanwhile what it changed. */
export async function draftUpdate(tree: WorkingTree, scratch: string, input: DraftInput): Promise<Draft> {
  const { manifest, snapshot } = input;
  const index = await describeIndex(tree, snapshot.listed);
  const files = sentFiles(tree, snapshot.listed, manifest.files);
  const isIndexSame = index !== undefined && index === manifest.index && !isResized(manifest.files, files);
  const history = await planHistory(tree, { ...input, isHeadLost: false });
  const packed = { ...input, ...snapshot, history, withIndex: !isIndexSame };
  return { ...input, files, history, index, isIndexSame, ...(await packMissing(tree, scratch, packed)) };
}

/** Whether a file has another size, and to git the same content: what the guest's index has noted of it is not true. */
function isResized(before: Manifest['files'], after: Manifest['files']): boolean {
  for (const [path, { oid, sizeBytes }] of after) {
    const was = before.get(path);
    if (was?.oid === oid && was.sizeBytes !== sizeBytes && was.sizeBytes !== undefined) return true;
  }
  return false;
}

/**
 * Works out what a guest lacks of a working tree: files that differ from what was sent before, and the objects and
 * references that git in the guest needs for them. The guest's other files stay as they are, ignored ones always.
 */
export async function buildUpdate(
  tree: WorkingTree,
  scratch: string,
  { draft, ...input }: UpdateInput & { readonly draft: Draft },
): Promise<Update | Conflicts> {
  const { manifest, snapshot } = draft;
  let { baseTree } = snapshot;
  let { files, history, pack, made } = draft;
  const before = manifest.files;
  const { paths, nested } = input.changes;
  const listed = new Set(paths.map(({ path }) => path));
  const found = await input.findIgnored(newPaths(before, files, listed));
  const ignored = found.filter(({ path }) => !before.has(path) && !listed.has(path));
  const changes = [...paths, ...ignored];
  const { repository } = tree;
  const view = { repository, env: snapshot.env, scratch, now: files, bring: input.bring };
  const { held, marked, known } = await findTaken(input.applied, view);
  const compared = planFiles({
    before: withApplied(before, held, files),
    after: files,
    guest: sinceApplied(changes, held, (path) => !isInside(path, nested)),
    converts: await convertsContent(tree),
  });
  if (input.policy === 'stop' && compared.conflicts.length > 0) {
    const { conflicts, misplaced } = compared;
    const applied = input.applied?.paths.keys() ?? [];
    const undone = new Set([...applied].filter((path) => !held.has(path) && !marked.has(path)));
    return { conflicts, misplaced, marked, undone };
  }
  const plan = input.policy === 'overwrite' ? overwriting(compared, files) : keeping(compared);
  if (plan.conflicts.length > 0) {
    const left = (all: ReadonlySet<RawPath>, done: ReadonlySet<RawPath>): RawPath[] =>
      [...all].filter((path) => !done.has(path));
    const stay = [
      ...plan.conflicts,
      ...left(compared.write, plan.write),
      ...left(compared.remove, plan.remove),
    ];
    const kept = new Map(stay.map((path) => [path, before.get(path)] as const));
    ({ baseTree, files } = await substituteFiles(tree, { env: snapshot.baseEnv, files, kept }));
  }
  // A file that the guest has made its own, which is the host's, too, does not travel.
  const isMissed = made.some(({ source }) => !plan.write.has(source));
  if (input.isHeadLost || baseTree !== snapshot.baseTree || isMissed) {
    if (input.isHeadLost) history = await planHistory(tree, { ...draft, isHeadLost: true });
    const packed = {
      ...draft,
      ...snapshot,
      history,
      withIndex: !draft.isIndexSame,
      baseTree,
      written: plan.write,
    };
    ({ pack, made } = await packMissing(tree, scratch, packed));
  }
  const applied =
    input.policy === 'overwrite'
      ? undefined
      : input.applied && { ...input.applied, baseTree, paths: stillApplied(known, { files, changes }) };
  const taken = await input.findTaken?.({ held, files: draft.files });
  const parts = { ...draft, ...input, applied, taken, baseTree, files, history, pack, made, plan };
  return assembleUpdate(tree, scratch, parts);
}

/** What stays true of it: where the new base is as the one before, and the guest is not. */
function stillApplied(
  applied: AppliedPaths,
  { files, changes }: Pick<Manifest, 'files'> & { readonly changes: readonly ChangedPath[] },
): AppliedPaths {
  const changed = new Set(changes.map(({ path }) => path));
  return new Map(
    [...applied].filter(([path, { sent, how }]) => {
      const isSent = files.has(path);
      return changed.has(path) && isSameEntry(files.get(path), sent) && !(isSent && how === 'ours');
    }),
  );
}
