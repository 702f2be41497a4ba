import type { HostGit } from './host-git.ts';
import type { IndexEntry } from './index-entries.ts';
import type { WorkingTree } from './inspect-tree.ts';
import { pathText, splitRaw, type RawPath } from './raw-path.ts';
import type { ListedFile } from './sent-files.ts';
import type { GitVariables } from './scratch-objects.ts';
import type { TreeFile } from './tree-files.ts';

/** What an index has noted of a file, so that git need not read it. */
interface IndexRecord {
  /** 0 as well where git is to read the file */
  readonly sizeBytes: number;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

/** More paths than these are not asked for by name. */
const mostNamed = 100;

/** Reads what the index that `env` names has noted of files; of more than those asked for, where that is less work. */
async function readRecords(
  git: HostGit,
  paths: readonly RawPath[],
  env: GitVariables,
): Promise<Map<RawPath, IndexRecord>> {
  if (paths.length === 0) return new Map();
  const names = paths.map((path) => Buffer.from(path, 'latin1').toString('utf8'));
  // Programs get their arguments as UTF-8, which not every path is.
  const isNamed = names.length <= mostNamed && names.every((name, at) => name === pathText(paths[at]!));
  const { stdout } = await git(['ls-files', '--debug', '-z', '--', ...(isNamed ? names : [])], {
    env: { ...env, GIT_LITERAL_PATHSPECS: '1' },
  });
  return parseRecords(stdout);
}

/** Parses `git ls-files --debug -z`: a path, and after it what is noted in lines, up to the next path. */
export function parseRecords(output: Buffer): Map<RawPath, IndexRecord> {
  const record =
    /^ {2}ctime: (\d+):(\d+)\n {2}mtime: (\d+):(\d+)\n {2}dev:.*\n {2}uid:.*\n {2}size: (\d+)\t.*\n/;
  const records = new Map<RawPath, IndexRecord>();
  const [first, ...rest] = [...splitRaw(output), output.toString('latin1').split('\0').pop()!];
  let path = first!;
  for (const each of rest) {
    const [noted, changed, changedNs, modified, modifiedNs, size] = record.exec(each) ?? [];
    if (noted === undefined) throw new Error(`git ls-files --debug printed ${JSON.stringify(each)}`);
    const time = (seconds: string, rest: string): bigint => BigInt(seconds) * 1_000_000_000n + BigInt(rest);
    records.set(path, {
      sizeBytes: Number(size),
      mtimeNs: time(modified!, modifiedNs!),
      ctimeNs: time(changed!, changedNs!),
    });
    path = each.slice(noted.length);
  }
  return records;
}

/**
 * Of paths that git finds changed, those of another size than the index has noted: git takes them for changed without
 * reading them, also where line ends or keywords are all that is different, and nothing else would be committed.
 */
export async function resizedPaths(tree: WorkingTree, paths: ReadonlySet<RawPath>): Promise<Set<RawPath>> {
  const { repository, indexCopy, files } = tree;
  if (indexCopy === undefined || paths.size === 0) return new Set();
  const records = await readRecords(repository.git, [...paths], { GIT_INDEX_FILE: indexCopy });
  const resized = files.filter(({ path, sizeBytes, target }) => {
    const noted = paths.has(path) ? (records.get(path)?.sizeBytes ?? 0) : 0;
    return noted !== 0 && noted !== (target?.length ?? sizeBytes);
  });
  return new Set(resized.map(({ path }) => path));
}

/** Paths that git shows as changed though it would commit nothing of them. */
export async function changedBySizeOnly(
  tree: WorkingTree,
  listed: readonly ListedFile[],
): Promise<RawPath[]> {
  if (tree.touched.size === 0) return [];
  const touched = listed.filter(({ path }) => tree.touched.has(path));
  const there = new Map(touched.map((file) => [file.path, file]));
  const isSame = ({ path, mode, oid, stage }: IndexEntry): boolean =>
    stage === 0 && tree.touched.has(path) && there.get(path)?.oid === oid && there.get(path)?.mode === mode;
  const same = tree.entries.filter(isSame).map(({ path }) => path);
  return [...(await resizedPaths(tree, new Set(same)))].sort();
}

/**
 * Of files that go through a filter, those that nobody has touched since git noted what it knows of them. Without their
 * filter, git cannot tell that of one that was written in the second in which the index was, as after a clone.
 */
export async function untouchedPaths(
  git: HostGit,
  files: readonly TreeFile[],
  env: GitVariables,
): Promise<Set<RawPath>> {
  const records = await readRecords(
    git,
    files.map(({ path }) => path),
    env,
  );
  const untouched = files.filter(({ path, stamp }) => {
    const { sizeBytes, mtimeNs, ctimeNs } = records.get(path) ?? {};
    return stamp.endsWith(`:${sizeBytes}:${mtimeNs}:${ctimeNs}`);
  });
  return new Set(untouched.map(({ path }) => path));
}
