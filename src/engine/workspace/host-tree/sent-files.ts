import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { parseEntries, type IndexEntry } from './index-entries.ts';
import { changedBySizeOnly } from './index-records.ts';
import type { WorkingTree } from './inspect-tree.ts';
import type { Manifest, SentFile } from '../sending/manifest.ts';
import { splitRaw, type RawPath } from './raw-path.ts';
import type { Repository } from './repository.ts';
import type { FilledIndex, GitVariables } from './scratch-objects.ts';
import type { TreeFile } from './tree-files.ts';

/** A file as an index has it. */
export type ListedFile = Pick<SentFile, 'mode' | 'oid'> & { readonly path: RawPath };

/** What is in the index that `env` names, which has no conflicts: all of it, or some paths. */
export async function listIndex(
  { git }: Pick<Repository, 'git'>,
  env: GitVariables,
  paths: readonly RawPath[] = [],
): Promise<ListedFile[]> {
  // Programs get their arguments as UTF-8.
  const names = paths.map((path) => `:(top,literal)${Buffer.from(path, 'latin1').toString()}`);
  return parseEntries((await git(['ls-files', '-s', '-v', '-z', '--', ...names], { env })).stdout);
}

/** More paths than these are not asked for by name: git compares each with all that is in the index. */
const mostNamed = 100;
const mostNamedBytes = 64 * 1024;

/**
 * The same of an index that was filled with a tree. Of one that is plain only what was read is asked for: the rest is as
 * in the user's.
 */
export async function listFilled(
  { repository, entries }: WorkingTree,
  { isPlain, read }: FilledIndex,
  env: GitVariables,
): Promise<readonly ListedFile[]> {
  if (isPlain && read.length === 0) return entries;
  const isFew = read.length <= mostNamed && read.join('').length <= mostNamedBytes;
  const canBeNamed = isFew && read.every((path) => isUtf8(Buffer.from(path, 'latin1')));
  if (!isPlain || !canBeNamed) return listIndex(repository, env);
  const now = new Map((await listIndex(repository, env, read)).map((file) => [file.path, file]));
  const isRead = new Set(read);
  return entries.flatMap((entry) => (isRead.has(entry.path) ? (now.get(entry.path) ?? []) : entry));
}

/** The files of a working tree of which git's tree is known. Those that are as they were before are the same objects. */
export function sentFiles(
  tree: WorkingTree,
  listed: readonly ListedFile[],
  before: Manifest['files'] = new Map(),
): Map<RawPath, SentFile> {
  const found = new Map<RawPath, TreeFile>();
  for (const file of tree.files) found.set(file.path, file);
  const files = new Map<RawPath, SentFile>();
  for (const { path, mode, oid } of listed) {
    const file = found.get(path);
    const known = before.get(path);
    files.set(path, known && isAsBefore(known, { mode, oid }, file) ? known : sentFile({ mode, oid }, file));
  }
  return files;
}

function sentFile({ mode, oid }: Pick<SentFile, 'mode' | 'oid'>, file: TreeFile | undefined): SentFile {
  if (!file) return { mode, oid };
  return { mode, oid, permissions: file.mode, sizeBytes: file.sizeBytes, stamp: file.stamp };
}

function isAsBefore(
  known: SentFile,
  { mode, oid }: Pick<SentFile, 'mode' | 'oid'>,
  file: TreeFile | undefined,
): boolean {
  return (
    known.oid === oid &&
    known.mode === mode &&
    known.stamp === file?.stamp &&
    known.permissions === file?.mode &&
    known.sizeBytes === file?.sizeBytes
  );
}

export interface Substitution {
  readonly env: GitVariables;
  readonly files: ReadonlyMap<RawPath, SentFile>;
  /** What is to be in the tree instead; undefined: nothing */
  readonly kept: ReadonlyMap<RawPath, SentFile | undefined>;
}

/** Makes a tree in which some files are as they were sent before: those that the guest has changed since. */
export async function substituteFiles(
  { repository: { git, objectFormat } }: WorkingTree,
  { env, files, kept }: Substitution,
): Promise<{ baseTree: string; files: Map<RawPath, SentFile> }> {
  const none = '0'.repeat(objectFormat === 'sha256' ? 64 : 40);
  const lines = [...kept].map(([path, file]) => `${file?.mode ?? 0} ${file?.oid ?? none} 0\t${path}\0`);
  // Removals first: a directory may be in the way of a file.
  lines.sort((a, b) => Number(b.startsWith('0 ')) - Number(a.startsWith('0 ')));
  await git(['update-index', '--replace', '-z', '--index-info'], {
    env,
    input: Buffer.from(lines.join(''), 'latin1'),
  });
  const written = await git(['write-tree', '--missing-ok'], { env });
  const listed = new Set(splitRaw((await git(['ls-files', '-z'], { env })).stdout));
  const all = [...files, ...kept].filter(([path, file]) => file && listed.has(path));
  return { baseTree: written.stdout.toString('latin1').trim(), files: new Map(all as [RawPath, SentFile][]) };
}

/** Whether git may give two different files the same name: it converts line ends, or expands keywords. */
export async function convertsContent({ repository, entries }: WorkingTree): Promise<boolean> {
  const { config, paths } = repository;
  const autocrlf = config.get('core.autocrlf')?.at(-1);
  if (autocrlf !== undefined && autocrlf !== 'false') return true;
  if (config.has('core.attributesfile')) return true;
  if (entries.some(({ path }) => path === '.gitattributes' || path.endsWith('/.gitattributes'))) return true;
  return stat(paths.attributes).then(
    ({ size }) => size > 0,
    () => false,
  );
}

/** Handing over a line takes longer than hashing it. */
const linesAtOnce = 500;

/**
 * Tells one index from the next by what the user sees of it, not by what git has noted about files. `listed`: the files
 * as they are now.
 */
export async function describeIndex(
  tree: WorkingTree,
  listed: readonly ListedFile[],
): Promise<string | undefined> {
  if (tree.indexCopy === undefined) return undefined;
  const hash = createHash('sha256');
  let lines: string[] = [];
  for (const { path, mode, oid, stage, isSkipped, isAssumedUnchanged } of tree.entries) {
    const marks = `${isSkipped ? 'S' : ''}${isAssumedUnchanged ? 'h' : ''}`;
    lines.push(`${mode} ${oid} ${stage} ${marks}\t${path}\0`);
    if (lines.length < linesAtOnce) continue;
    hash.update(lines.join(''), 'latin1');
    lines = [];
  }
  hash.update(lines.join(''), 'latin1');
  const [intended, bySize] = await Promise.all([intendedPaths(tree), changedBySizeOnly(tree, listed)]);
  hash.update(intended.join('\0'), 'latin1');
  if (bySize.length > 0) hash.update(`\0\0${bySize.join('\0')}`, 'latin1');
  return hash.digest('hex');
}

/** Index entries of paths where the index has something else than the file; see `Manifest`. */
export function describeStaged(
  entries: readonly Pick<IndexEntry, 'path' | 'mode' | 'oid' | 'stage'>[],
  files: ReadonlyMap<RawPath, Pick<SentFile, 'mode' | 'oid'>>,
): Record<RawPath, string> {
  const odd = new Map<RawPath, string>();
  let same = 0;
  for (const { path, mode, oid, stage } of entries) {
    const file = files.get(path);
    if (stage === 0 && file?.mode === mode && file.oid === oid) {
      same++;
      continue;
    }
    const before = odd.get(path);
    const entry = `${mode} ${oid} ${stage}`;
    odd.set(path, before === undefined ? entry : `${before},${entry}`);
  }
  if (same === files.size) return Object.fromEntries(odd);
  const listed = new Set<RawPath>();
  for (const { path } of entries) listed.add(path);
  for (const path of files.keys()) if (!listed.has(path)) odd.set(path, '');
  return Object.fromEntries(odd);
}

const emptyBlobs = new Set([
  'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391',
  '473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813',
]);

/** Files that are to be added and are not yet: to git's list they look like empty ones that are. */
async function intendedPaths({ repository, entries, indexCopy }: WorkingTree): Promise<RawPath[]> {
  const isCandidate = ({ oid, stage }: IndexEntry): boolean => stage === 0 && emptyBlobs.has(oid);
  if (!entries.some(isCandidate)) return [];
  const env = { GIT_INDEX_FILE: indexCopy! };
  return splitRaw(
    (await repository.git(['diff-files', '--diff-filter=A', '--name-only', '-z'], { env })).stdout,
  );
}
