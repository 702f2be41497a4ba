import type { AppliedRecord } from '../applying/applied-record.ts';
import { describeHistory } from '../host-tree/history.ts';
import type { WorkingTree } from '../host-tree/inspect-tree.ts';
import type { RawPath } from '../host-tree/raw-path.ts';
import { describeStaged } from '../host-tree/sent-files.ts';
import type { TreeFile } from '../host-tree/tree-files.ts';
import type { Draft, UpdateInput } from './build-update.ts';
import { compareTexts, parseReferences, type TextDifference } from './compare-texts.ts';
import { writeGuestIndex } from './guest-index.ts';
import { hasSamePaths } from './known-paths.ts';
import { placeList, planDirectories } from './place-files.ts';
import type { FilePlan } from './plan-update.ts';
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
import { keptReference, type TakenCommits } from './taken-commits.ts';
import { madeLater, type TarEntry } from './tar-stream.ts';
import { updateNames } from './update-names.ts';
import { updateScript } from './update-script.ts';

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

/** What it is put together of. */
export interface Parts extends Draft, UpdateInput {
  readonly taken?: TakenCommits;
  readonly baseTree: string;
  readonly plan: FilePlan;
}

/** Puts together what travels, and the program that puts it in its place. */
export async function assembleUpdate(tree: WorkingTree, scratch: string, parts: Parts): Promise<Update> {
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
