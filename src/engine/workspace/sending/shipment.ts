import { lstat, mkdtemp, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { errnoOf } from '../../../errors.ts';
import { knownIndexName, knownPathsName, ownIndexName } from '../guest-tree/known-index.ts';
import { guestConfigText } from '../host-tree/git-config.ts';
import { writeGuestIndex, writeKnownIndex } from './guest-index.ts';
import { writePack } from './guest-pack.ts';
import { findMadeBlobs, madeList, type CanMakeBlobs, type MadeBlob } from './made-blobs.ts';
import { namingDamage } from '../host-tree/damage.ts';
import { describeHistory, findShallowEnds, tipsOf } from '../host-tree/history.ts';
import type { WorkingTree } from '../host-tree/inspect-tree.ts';
import { hostPath } from '../host-tree/raw-path.ts';
import type { Repository } from '../host-tree/repository.ts';
import { fullHistoryEnds, listCommits } from '../host-tree/known-commits.ts';
import { hasSameContent, hasSamePaths } from './known-paths.ts';
import type { Manifest } from './manifest.ts';
import {
  baseReference,
  placed,
  shipSubmodules,
  topPlace,
  worktreeOf,
  type RepositoryPlace,
} from './ship-submodules.ts';
import { describeIndex, describeStaged, sentFiles } from '../host-tree/sent-files.ts';
import { takeSnapshot, type Snapshot } from '../host-tree/snapshot.ts';
import { madeLater, type TarEntry } from './tar-stream.ts';
import { stampOf, type TreeFile } from '../host-tree/tree-files.ts';
import { readUserFile } from '../host-tree/user-files.ts';
import { updateNames } from './update-names.ts';

/** Everything that goes into a guest for one working tree. */
export interface Shipment {
  /** Files of the tree first, its repository after */
  readonly entries: Iterable<TarEntry>;
  readonly fileCount: number;
  readonly totalBytes: number;
  /** Objects that the guest makes of the files */
  readonly made: readonly MadeBlob[];
  /** Git tree of the files, dirty content included; its objects travel too */
  readonly baseTree: string;
  /** For the next time */
  readonly manifest: Manifest;
}

/**
 * Makes the guest's copy of a repository in the scratch directory: an index that says what is staged, a pack
 * with the latest history and what is staged or dirty, and references, so that the guest needs no git for it.
 *
 * New objects go to the scratch directory; the user's repository gets none.
 */
export async function buildShipment(
  tree: WorkingTree,
  scratch: string,
  options: ShipmentOptions,
  place: RepositoryPlace = topPlace,
): Promise<Shipment> {
  const { fullHistory, token } = options;
  const { repository, state } = tree;
  const { env, baseTree, listed } = options.snapshot ?? (await takeSnapshot(tree, scratch));
  const files = sentFiles(tree, listed);
  const findEnds = fullHistory ? fullHistoryEnds : findShallowEnds;
  const shallowEnds = await namingDamage(repository, () => findEnds(repository, state.tips));
  const indexFile = await writeGuestIndex(tree, scratch);
  const knownIndexFile = await writeKnownIndex(tree, indexFile);
  const { canMakeBlobs } = options;
  const ownBlobs = await findMadeBlobs(tree, { listed, place, canMakeBlobs });
  const wanted = [...shallowEnds.map((end) => `--shallow ${end}`), repository.head, ...state.tips, baseTree];
  const pack = await writePack(tree, scratch, { env, wanted, made: ownBlobs });
  const parts = { baseTree, shallowEnds, indexFile, knownIndexFile, pack, worktree: worktreeOf(place) };
  const submodules = await shipSubmodules(tree, place, async (inner, innerPlace) => {
    const own = await mkdtemp(join(scratch, 'submodule-'));
    return buildShipment(inner, own, { ...options, snapshot: undefined }, innerPlace);
  });
  const made = [...ownBlobs, ...submodules.made];
  const ofRepository = await repositoryEntries(tree, parts);
  const last = [
    ...ofRepository.map((entry) => placed(entry, place)),
    ...(place === topPlace
      ? [textEntry(updateNames.sent, Buffer.from(`${token}\n`)), ...madeEntries(made)]
      : []),
    ...(indexFile && hasSamePaths({ entries: tree.entries, files }) && hasSameContent(tree, files)
      ? knownPathsEntries(baseTree).map((entry) => placed(entry, place))
      : []),
  ];
  const entries = madeLater(function* () {
    for (const file of tree.files) yield placed(workingEntry(repository.topLevel, file), place);
    yield* submodules.entries;
    yield* last;
  });
  const commits = fullHistory
    ? undefined
    : [...(await listCommits(repository, tipsOf(tree), shallowEnds)).keys()];
  const manifest = {
    baseTree,
    files,
    commits,
    history: await describeHistory(tree),
    index: await describeIndex(tree, listed),
    staged: describeStaged(tree.entries, files),
    texts: textsOf(ofRepository),
  };
  const fileCount = tree.files.length + submodules.fileCount;
  return { entries, fileCount, totalBytes: sizeOf(entries), made, baseTree, manifest };
}

export interface ShipmentOptions {
  /** All commits that HEAD has, not the last ones only */
  readonly fullHistory: boolean;
  /** Put in the guest's repository, to tell this sending from others */
  readonly token: string;
  /** Of the guest; absent: no */
  readonly canMakeBlobs?: CanMakeBlobs;
  /** Of the tree, when it was taken already */
  readonly snapshot?: Snapshot;
}

/** Bytes of content. */
export function sizeOf(entries: Iterable<TarEntry>): number {
  let total = 0;
  for (const { content } of entries) {
    if (content.kind === 'bytes') total += content.bytes.length;
    else if (content.kind === 'file') total += content.sizeBytes;
  }
  return total;
}

/** The small files among a repository's entries, by their path in it. */
export function textsOf(entries: readonly TarEntry[]): Record<string, string> {
  return Object.fromEntries(
    entries.flatMap(({ path, content }) =>
      content.kind === 'bytes' ? [[path.slice('.git/'.length), content.bytes.toString('latin1')]] : [],
    ),
  );
}

export function textEntry(path: string, bytes: Buffer): TarEntry {
  const mtimeSeconds = Math.floor(Date.now() / 1000);
  return { path, mode: 0o644, mtimeSeconds, content: { kind: 'bytes', bytes } };
}

export function madeEntries(made: readonly MadeBlob[]): TarEntry[] {
  return made.length === 0 ? [] : [textEntry(updateNames.blobs, madeList(made))];
}

export function packEntry(file: string): Promise<TarEntry> {
  return fileEntry(`.git/objects/pack/${basename(file)}`, file, 0o444);
}

export function workingEntry(topLevel: string, file: TreeFile): TarEntry {
  const { path, mode, mtimeSeconds, sizeBytes, target, stamp } = file;
  const source = file.source ?? hostPath(topLevel, path);
  const content = target
    ? ({ kind: 'symlink', target, source, stamp } as const)
    : ({ kind: 'file', sizeBytes, source, stamp } as const);
  return { path, mode, mtimeSeconds, content };
}

interface RepositoryParts {
  readonly baseTree: string;
  readonly shallowEnds: readonly string[];
  readonly indexFile?: string;
  readonly knownIndexFile?: string;
  readonly pack: readonly string[];
  /** Where the files are, seen from the repository; absent where git finds them by itself */
  readonly worktree?: string;
}

/** A guest's repository, but for the objects that are not in the pack. */
export async function repositoryEntries(
  { repository, state }: WorkingTree,
  { baseTree, shallowEnds, indexFile, knownIndexFile, pack, worktree }: RepositoryParts,
): Promise<TarEntry[]> {
  const { head, branch, paths } = repository;
  const branchReference = branch && (branch.startsWith('refs/') ? branch : `refs/heads/${branch}`);
  const references = new Map([
    [baseReference, baseTree],
    ...state.references.map(({ name, oid }) => [name, oid] as const),
  ]);
  if (head && branchReference) references.set(branchReference, head);
  const now = Math.floor(Date.now() / 1000);
  const text = (path: string, content: string | Buffer): TarEntry =>
    textEntry(`.git/${path}`, Buffer.from(content));
  const directories = [
    '',
    'info/',
    'objects/',
    'objects/info/',
    'objects/pack/',
    'refs/',
    'refs/heads/',
    'refs/tags/',
    ...new Set(state.files.flatMap(({ path }) => (path.includes('/') ? [`${path.split('/')[0]}/`] : []))),
  ];
  const [exclude, attributes, sparseCheckout] = await Promise.all(
    [paths.exclude, paths.attributes, paths.sparseCheckout].map(smallFile),
  );
  const excludes = Buffer.concat([await userExcludes(repository), exclude ?? Buffer.alloc(0)]);
  return [
    ...directories.map((path): TarEntry => {
      return { path: `.git/${path}`, mode: 0o755, mtimeSeconds: now, content: { kind: 'directory' } };
    }),
    ...(await Promise.all(pack.map(packEntry))),
    text('config', guestConfigText({ ...repository, worktree })),
    text(
      'packed-refs',
      `# pack-refs with: sorted \n${[...references]
        .sort(byName)
        .map(([name, oid]) => `${oid} ${name}\n`)
        .join('')}`,
    ),
    ...(shallowEnds.length > 0 ? [text('shallow', shallowEnds.map((end) => `${end}\n`).join(''))] : []),
    ...(excludes.length > 0 ? [text('info/exclude', excludes)] : []),
    ...(attributes ? [text('info/attributes', attributes)] : []),
    ...(sparseCheckout ? [text('info/sparse-checkout', sparseCheckout)] : []),
    ...state.files.map(({ path, bytes }) => text(path, bytes)),
    ...(indexFile ? [await fileEntry('.git/index', indexFile, 0o644)] : []),
    ...(indexFile && knownIndexFile ? [await knownIndexEntry(indexFile, knownIndexFile, now)] : []),
    text('HEAD', branchReference ? `ref: ${branchReference}\n` : `${head}\n`),
  ];
}

/** What the user has git ignore in all repositories counts for less than what this one has it ignore, so it goes first. */
async function userExcludes({ config }: Repository): Promise<Buffer> {
  const found = await readUserFile(config, { setting: 'core.excludesfile', name: 'ignore' });
  const text = found?.text ?? '';
  return Buffer.from(text === '' || text.endsWith('\n') ? text : `${text}\n`, 'latin1');
}

function byName([a]: readonly [string, string], [b]: readonly [string, string]): number {
  return a < b ? -1 : 1;
}

/** Git replaces its index, and never writes into it: a second name keeps what it was. */
async function knownIndexEntry(indexFile: string, knownFile: string, now: number): Promise<TarEntry> {
  if (knownFile !== indexFile) return fileEntry(`.git/${knownIndexName}`, knownFile, 0o644);
  const content = { kind: 'link', target: '.git/index' } as const;
  return { path: `.git/${knownIndexName}`, mode: 0o644, mtimeSeconds: now, content };
}

function knownPathsEntries(baseTree: string): TarEntry[] {
  const base = textEntry(`.git/${knownPathsName}`, Buffer.from(`${baseTree}\n`));
  return [{ ...base, path: `.git/${ownIndexName}`, content: { kind: 'link', target: '.git/index' } }, base];
}

export async function fileEntry(path: string, file: string, mode: number): Promise<TarEntry> {
  const stats = await lstat(file, { bigint: true });
  return {
    path,
    mode,
    mtimeSeconds: Math.floor(Number(stats.mtimeMs) / 1000),
    content: {
      kind: 'file',
      sizeBytes: Number(stats.size),
      source: Buffer.from(file),
      stamp: stampOf(stats),
    },
  };
}

const maxSmallFileBytes = 1024 * 1024;

/** Patterns the user wrote by hand; one that is missing, or too large to be that, does not travel. */
async function smallFile(path: string): Promise<Buffer | undefined> {
  try {
    const stats = await stat(path);
    return stats.isFile() && stats.size <= maxSmallFileBytes ? await readFile(path) : undefined;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}
