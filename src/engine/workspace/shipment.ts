import {
  copyFile,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  stat,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../errors.ts';
import { knownIndexName } from './changes-script.ts';
import { guestConfigText, promisorRemote } from './git-config.ts';
import { findShallowEnds } from './history.ts';
import type { WorkingTree } from './inspect-tree.ts';
import { hostBytes } from './raw-path.ts';
import {
  baseReference,
  placed,
  shipSubmodules,
  topPlace,
  worktreeOf,
  type RepositoryPlace,
} from './ship-submodules.ts';
import { scratchObjects, writeTree } from './scratch-objects.ts';
import type { TarEntry } from './tar-stream.ts';
import { stampOf, type TreeFile } from './tree-files.ts';

/** Everything that goes into a guest for one working tree. */
export interface Shipment {
  /** Files of the tree first, its repository after */
  readonly entries: readonly TarEntry[];
  readonly fileCount: number;
  readonly totalBytes: number;
  /** Git tree of the files, dirty content included; its objects travel too */
  readonly baseTree: string;
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
  place: RepositoryPlace = topPlace,
): Promise<Shipment> {
  const env = await scratchObjects(tree.repository, scratch);
  const baseTree = await writeTree(tree, { ...env, GIT_INDEX_FILE: join(scratch, 'base-index') });
  const shallowEnds = await findShallowEnds(tree.repository, tree.state.tips);
  const indexFile = await writeGuestIndex(tree, scratch);
  const knownIndexFile = await writeKnownIndex(tree, indexFile);
  const pack = await writePack(tree, scratch, {
    env,
    wanted: [
      ...shallowEnds.map((end) => `--shallow ${end}`),
      tree.repository.head,
      ...tree.state.tips,
      baseTree,
    ],
  });
  const parts = { baseTree, shallowEnds, indexFile, knownIndexFile, pack, worktree: worktreeOf(place) };
  const submodules = await shipSubmodules(tree, place, async (inner, innerPlace) => {
    const own = await mkdtemp(join(scratch, 'submodule-'));
    return buildShipment(inner, own, innerPlace);
  });
  const entries = [
    ...tree.files.map((file) => placed(workingEntry(tree.repository.topLevel, file), place)),
    ...submodules.entries,
    ...(await repositoryEntries(tree, parts)).map((entry) => placed(entry, place)),
  ];
  const totalBytes = entries.reduce((total, { content }) => {
    if (content.kind === 'bytes') return total + content.bytes.length;
    return total + (content.kind === 'file' ? content.sizeBytes : 0);
  }, 0);
  return { entries, fileCount: tree.files.length + submodules.fileCount, totalBytes, baseTree };
}

/**
 * The index as the guest gets it: in one file and without caches of this host, all else as the user left it. Git on
 * either side reads only files that do not have the time and size which the index has of them.
 */
async function writeGuestIndex(tree: WorkingTree, scratch: string): Promise<string | undefined> {
  if (tree.indexCopy === undefined) return undefined;
  const copy = join(scratch, 'guest-index');
  await copyFile(tree.indexCopy, copy);
  const { mtimeMs } = await stat(tree.indexCopy);
  await utimes(copy, mtimeMs / 1000, mtimeMs / 1000);
  const env = { GIT_INDEX_FILE: copy };
  await tree.repository.git(['update-index', '-z', '--index-info'], { env, input: touchedEntries(tree) });
  await tree.repository.git(['update-index', '-q', '--unmerged', '--refresh', '--force-write-index'], {
    env,
  });
  return copy;
}

/**
 * Entries whose files changed, without the sizes and times of old: a change can leave these as they were, which git
 * tells by the inode only.
 */
function touchedEntries({ entries, touched }: WorkingTree): Buffer {
  const lines = entries
    .filter((entry) => entry.stage === 0 && !entry.isSkipped && !entry.isAssumedUnchanged)
    .filter((entry) => touched.has(entry.path))
    .map(({ mode, oid, path }) => `${mode} ${oid} 0\t${path}\0`);
  return Buffer.from(lines.join(''), 'latin1');
}

/** An index as `knownIndexName` is to be: where the user told git not to look at a file, a copy without that. */
async function writeKnownIndex(
  { entries, repository }: WorkingTree,
  indexFile: string | undefined,
): Promise<string | undefined> {
  const marked = entries.filter(({ stage, isSkipped, isAssumedUnchanged }) => {
    return stage === 0 && (isSkipped || isAssumedUnchanged);
  });
  if (indexFile === undefined || marked.length === 0) return indexFile;
  const copy = `${indexFile}-known`;
  await copyFile(indexFile, copy);
  const input = Buffer.from(marked.map(({ path }) => `${path}\0`).join(''), 'latin1');
  for (const mark of ['--no-skip-worktree', '--no-assume-unchanged']) {
    await repository.git(['update-index', mark, '-z', '--stdin'], { env: { GIT_INDEX_FILE: copy }, input });
  }
  return copy;
}

const packCommand = ['pack-objects', '--revs', '--indexed-objects', '--delta-base-offset', '-q'];

interface PackInput {
  readonly env: Readonly<Record<string, string>>;
  readonly wanted: readonly (string | undefined)[];
}

/** Packs what is reachable from the wanted objects and the index; returns the files made. */
async function writePack(tree: WorkingTree, scratch: string, { env, wanted }: PackInput): Promise<string[]> {
  const directory = join(scratch, 'pack');
  const isPartial = promisorRemote(tree.repository.config) !== undefined;
  await mkdir(directory);
  const input = Buffer.from(wanted.filter((line) => line !== undefined).join('\n') + '\n');
  await tree.repository.git(
    [...packCommand, ...(isPartial ? ['--missing=allow-promisor'] : []), join(directory, 'pack')],
    { env: { ...env, GIT_INDEX_FILE: tree.indexCopy ?? join(scratch, 'no-index') }, input },
  );
  const names = (await readdir(directory)).filter((name) => /\.(?:pack|idx)$/.test(name));
  if (isPartial) {
    // Tells the guest's git that whatever this pack's objects name and lack is with the remote.
    const [pack] = names.map((name) => name.replace(/\.[a-z]+$/, '.promisor'));
    await writeFile(join(directory, pack!), '');
    names.push(pack!);
  }
  return names.map((name) => join(directory, name));
}

function workingEntry(topLevel: string, file: TreeFile): TarEntry {
  const { path, mode, mtimeSeconds, sizeBytes, target, stamp } = file;
  const source = hostBytes(topLevel, path);
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

async function repositoryEntries(
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
  const text = (path: string, content: string | Buffer): TarEntry => ({
    path: `.git/${path}`,
    mode: 0o644,
    mtimeSeconds: now,
    content: { kind: 'bytes', bytes: Buffer.from(content) },
  });
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
  return [
    ...directories.map((path): TarEntry => {
      return { path: `.git/${path}`, mode: 0o755, mtimeSeconds: now, content: { kind: 'directory' } };
    }),
    ...(await Promise.all(
      pack.map((file) => fileEntry(`objects/pack/${file.split('/').at(-1)}`, file, 0o444)),
    )),
    text('config', guestConfigText({ ...repository, worktree })),
    text(
      'packed-refs',
      `# pack-refs with: sorted \n${[...references]
        .sort(byName)
        .map(([name, oid]) => `${oid} ${name}\n`)
        .join('')}`,
    ),
    ...(shallowEnds.length > 0 ? [text('shallow', shallowEnds.map((end) => `${end}\n`).join(''))] : []),
    ...(exclude ? [text('info/exclude', exclude)] : []),
    ...(attributes ? [text('info/attributes', attributes)] : []),
    ...(sparseCheckout ? [text('info/sparse-checkout', sparseCheckout)] : []),
    ...state.files.map(({ path, bytes }) => text(path, bytes)),
    ...(indexFile ? [await fileEntry('index', indexFile, 0o644)] : []),
    ...(indexFile && knownIndexFile ? [await knownIndexEntry(indexFile, knownIndexFile, now)] : []),
    text('HEAD', branchReference ? `ref: ${branchReference}\n` : `${head}\n`),
  ];
}

function byName([a]: readonly [string, string], [b]: readonly [string, string]): number {
  return a < b ? -1 : 1;
}

/** Git replaces its index, and never writes into it: a second name keeps what it was. */
async function knownIndexEntry(indexFile: string, knownFile: string, now: number): Promise<TarEntry> {
  if (knownFile !== indexFile) return fileEntry(knownIndexName, knownFile, 0o644);
  const content = { kind: 'link', target: '.git/index' } as const;
  return { path: `.git/${knownIndexName}`, mode: 0o644, mtimeSeconds: now, content };
}

async function fileEntry(path: string, file: string, mode: number): Promise<TarEntry> {
  const stats = await lstat(file, { bigint: true });
  return {
    path: `.git/${path}`,
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
