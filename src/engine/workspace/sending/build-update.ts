import type { AppliedRecord } from '../applying/applied-record.ts';
import type { BringTexts } from '../applying/bring-texts.ts';
import { findTaken, type Held } from '../applying/held-here.ts';
import { isInside, sinceApplied, withApplied, type AppliedPaths } from '../applying/since-applied.ts';
import { isSameEntry, type ChangedPath } from '../guest-tree/changes-format.ts';
import type { GuestChanges } from '../guest-tree/guest-changes.ts';
import type { AskedPaths } from '../guest-tree/ask-guest.ts';
import { newPaths } from './new-paths.ts';
import { writeGuestIndex } from './guest-index.ts';
import { compareTexts, parseReferences, type TextDifference } from './compare-texts.ts';
import type { CanMakeBlobs, MadeBlob } from './made-blobs.ts';
import { packMissing } from './pack-missing.ts';
import type { WorkingTree } from '../host-tree/inspect-tree.ts';
import { hasSamePaths } from './known-paths.ts';
import type { Manifest, SentFile } from './manifest.ts';
import { planHistory, type History, type HistoryInput } from './plan-history.ts';
import { describeHistory } from '../host-tree/history.ts';
import { keeping, overwriting, planFiles, type FilePlan } from './plan-update.ts';
import type { RawPath } from '../host-tree/raw-path.ts';
import {
  convertsContent,
  describeIndex,
  describeStaged,
  sentFiles,
  substituteFiles,
} from '../host-tree/sent-files.ts';
import { planGuard, type ReferenceGuard } from './reference-guard.ts';
import {
  fileEntry,
  madeEntries,
  packEntry,
  repositoryEntries,
  sizeOf,
  textEntry,
  textsOf,
  workingEntry,
  type Shipment,
} from './shipment.ts';
import type { Snapshot } from '../host-tree/snapshot.ts';
import { madeLater, type TarEntry } from './tar-stream.ts';
import type { TreeFile } from '../host-tree/tree-files.ts';
import { keptReference, type TakenCommits } from './taken-commits.ts';
import { updateNames } from './update-names.ts';
import { updateScript } from './update-script.ts';
import { placeList, planDirectories } from './place-files.ts';

/** What turns the tree that a guest has into another one. */
export interface Update extends Shipment {
  readonly plan: FilePlan;
  /** HEAD, references or the index change: commits that the guest made would be out of sight */
  readonly movesHead: boolean;
  /** What the guest has staged is replaced */
  readonly setsIndex: boolean;
  /** The guest's git is wanted to carry it out */
  readonly needsGit: boolean;
  /** What has to be true of the guest's references */
  readonly guard: ReferenceGuard;
  /** What is written over or goes, below the workspace, files of its repository among it */
  readonly replaced: readonly RawPath[];
  /** What of the guest's changes went into the host's tree, and is compared with from now on */
  readonly applied?: AppliedRecord;
  /** Commits that its branch leaves, and which it keeps elsewhere */
  readonly left?: TakenCommits;
}

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
    return { conflicts, misplaced, marked };
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
  return assemble(tree, scratch, parts);
}

/** What stays true of it: where the new base is as the one before, and the guest is not. */
function stillApplied(
  applied: AppliedPaths,
  { files, changes }: Pick<Manifest, 'files'> & { readonly changes: readonly ChangedPath[] },
): AppliedPaths {
  const changed = new Set(changes.map(({ path }) => path));
  return new Map(
    [...applied].filter(([path, { sent }]) => changed.has(path) && isSameEntry(files.get(path), sent)),
  );
}

interface Parts extends Draft, UpdateInput {
  readonly taken?: TakenCommits;
  readonly baseTree: string;
  readonly plan: FilePlan;
}

async function assemble(tree: WorkingTree, scratch: string, parts: Parts): Promise<Update> {
  const { repository } = tree;
  const { manifest, plan, files, baseTree, history, index, isIndexSame, pack, made } = parts;
  const indexFile = isIndexSame
    ? undefined
    : await writeGuestIndex(tree, scratch, [...plan.kept, ...plan.conflicts]);
  const texts = textsOf(await repositoryEntries(tree, { baseTree, shallowEnds: history.ends, pack: [] }));
  const compared = compareTexts(parts.isHeadLost ? undefined : manifest.texts, texts);
  const movesHead = compared.references.length > 0 || compared.head !== undefined || !isIndexSame;
  const left = movesHead ? parts.taken : undefined;
  const difference = left ? leaving(compared, left, texts) : compared;
  const knownCommits = left ? [...parts.knownCommits, left.head] : parts.knownCommits;
  const guard = planGuard(difference, { ...parts, knownCommits, texts, head: repository.head });
  const head = difference.head ?? guard.headToSet;

  const wanted = tree.files.filter((file) => plan.write.has(file.path));
  // Git in the guest has no such filter: it takes the file for the one in the index as long as it does not read it.
  const bearsTime = ({ path }: TreeFile): boolean => tree.filtered.has(path) && !tree.touched.has(path);
  const times = new Map(wanted.filter(bearsTime).map(({ path, mtimeSeconds }) => [path, mtimeSeconds]));
  const directories = planDirectories(plan, files);
  const script = updateScript({
    plan,
    permissionsOf: (path) => files.get(path)!.permissions!,
    times,
    directories,
    baseTree,
    knownPaths: keepsPaths(tree, parts) ? manifest.baseTree : undefined,
    ...difference,
    head,
    knownCommits: guard.knownCommits,
    shallowEnds: history.newEnds,
    deepened: history.deepened,
    made: made.map(({ target }) => target),
    index: isIndexSame ? 'same' : indexFile ? 'sent' : 'none',
    token: parts.token,
  });
  const own: TarEntry[] = [
    ...(await Promise.all(pack.map((file) => packEntry(file)))),
    ...difference.changedTexts.map(({ path, next }) => textEntry(next, latin1(texts[path]!))),
    ...(indexFile ? [await fileEntry(updateNames.index, indexFile, 0o644)] : []),
  ];
  const ownPaths = [...made.map(({ target }) => target), ...own.map(({ path }) => path)];
  const written = wanted.map(({ path }) => path);
  const list = placeList({ ...plan, ...directories, written, times, own: ownPaths });
  const entries = madeLater(function* () {
    yield textEntry(updateNames.script, script);
    yield textEntry(updateNames.list, list);
    for (const file of wanted) yield workingEntry(repository.topLevel, file);
    yield* own;
    yield* madeEntries(made);
  });
  return {
    entries,
    fileCount: wanted.length,
    totalBytes: sizeOf(entries),
    made,
    baseTree,
    plan,
    applied: parts.applied,
    left,
    movesHead,
    needsGit: difference.references.length > 0 || head !== undefined,
    setsIndex: !isIndexSame,
    guard,
    replaced: [
      ...plan.write,
      ...plan.remove,
      ...(movesHead ? ['.git/HEAD', '.git/refs/heads', '.git/packed-refs'] : []),
      ...(isIndexSame ? [] : ['.git/index']),
    ],
    manifest: {
      baseTree,
      files,
      commits: history.commits,
      history: await describeHistory(tree),
      index,
      staged: describeStaged(tree.entries, files),
      texts,
    },
  };
}

/** The branch goes to where the host has it, also where that did not move, and its commits stay beside it. */
function leaving(
  difference: TextDifference,
  left: TakenCommits,
  texts: Readonly<Record<string, string>>,
): TextDifference {
  const references = new Map(difference.references);
  const [, branch = ''] = /^ref: (.+)\n$/.exec(texts['HEAD']!) ?? [];
  const oid = parseReferences(texts['packed-refs']).get(branch);
  if (oid !== undefined) references.set(branch, oid);
  return { ...difference, references: [...references, [keptReference(left), left.head]] };
}

/** Whether tree and index have the paths that they had, and the same ones. */
function keepsPaths(tree: WorkingTree, { manifest, files }: Pick<Parts, 'manifest' | 'files'>): boolean {
  if (files.size !== manifest.files.size) return false;
  for (const path of files.keys()) if (!manifest.files.has(path)) return false;
  return hasSamePaths({ entries: tree.entries, files });
}

function latin1(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}
