import type { ChangedPath, GitEntry } from '../guest-tree/changes-format.ts';
import { blobSizes } from '../host-tree/blob-sizes.ts';
import type { WorkingTree } from '../host-tree/inspect-tree.ts';
import type { RawPath } from '../host-tree/raw-path.ts';
import { fillIndex, type GitVariables } from '../host-tree/scratch-objects.ts';
import type { TreeFile } from '../host-tree/tree-files.ts';
import type { SentFile } from '../sending/manifest.ts';

type IndexVariables = GitVariables & { readonly GIT_INDEX_FILE: string };

/** Of files that may be moved ones, no more are read; git compares no more than that many, either. */
const mostCandidates = 1000;
const mostCandidateBytes = 256 * 1024 * 1024;

/**
 * Fills an index with a tree as far as a merge depends on it: of what git does not track, files at these paths and those
 * by which git reads others. Returns the rest: git would read and pack all of it, which may be a data set.
 */
export async function fillNeeded(
  tree: WorkingTree,
  paths: ReadonlySet<RawPath>,
  env: IndexVariables,
): Promise<readonly TreeFile[]> {
  const tracked = new Set(tree.entries.map(({ path }) => path));
  const isNeeded = ({ path }: TreeFile): boolean =>
    tracked.has(path) || paths.has(path) || nameOf(path) === '.gitattributes';
  const { needed = [], rest = [] } = Object.groupBy(tree.files, (file) =>
    isNeeded(file) ? 'needed' : 'rest',
  );
  const left = new Set(rest.map(({ path }) => path));
  const unsure = new Set([...tree.unsure].filter((path) => !left.has(path)));
  await fillIndex({ ...tree, files: needed, unsure }, env);
  return rest;
}

export interface MaybeMoved {
  /** Files that git does not track, and that are not in the index */
  readonly rest: readonly TreeFile[];
  /** What the guest changed */
  readonly changes: readonly ChangedPath[];
  /** What it was sent, when that is known */
  readonly sent: ReadonlyMap<RawPath, GitEntry | SentFile> | undefined;
  readonly now: ReadonlyMap<RawPath, GitEntry>;
}

/**
 * Adds those of the rest to the index that may be what is missing at its old path: of about the size of a file that the
 * guest changed or, since a directory may have been moved, of a file's very name and size. Returns whether there are any.
 */
export async function fillMoved(
  { repository }: WorkingTree,
  { rest, changes, sent, now }: MaybeMoved,
  env: IndexVariables,
): Promise<boolean> {
  if (rest.length === 0) return false;
  const gone = changes.flatMap(({ path, before }) =>
    before?.mode.startsWith('100') && !now.has(path) ? [before.oid] : [],
  );
  const missing = gone.length > 0 ? await blobSizes(repository, gone, env) : [];
  const sizes = Float64Array.from(missing.values()).sort();
  const isMade = changes.some(({ path, before, after }) => after && !before && !now.has(path));
  const alike = new Set(
    [...((isMade && sent) || [])].flatMap(([path, file]) =>
      now.has(path) || !('sizeBytes' in file) ? [] : [`${file.sizeBytes} ${nameOf(path)}`],
    ),
  );
  const isCandidate = ({ path, sizeBytes, target }: TreeFile): boolean => {
    if (target) return false;
    if (alike.has(`${sizeBytes} ${nameOf(path)}`)) return true;
    // Git takes files for one when half of them is the same.
    const smallest = sizes[firstFrom(sizes, sizeBytes / 2)];
    return smallest !== undefined && smallest <= sizeBytes * 2;
  };
  let bytes = 0;
  const candidates = rest
    .filter(isCandidate)
    .slice(0, mostCandidates)
    .filter(({ sizeBytes }) => (bytes += sizeBytes) <= mostCandidateBytes);
  if (candidates.length === 0) return false;
  const input = Buffer.from(candidates.map(({ path }) => `${path}\0`).join(''), 'latin1');
  await repository.git(['update-index', '--add', '--remove', '-z', '--stdin'], { env, input });
  return true;
}

/** Where the first number that is no less is among sorted ones; their count when there is none. */
function firstFrom(sorted: Float64Array, least: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! < least) low = middle + 1;
    else high = middle;
  }
  return low;
}

function nameOf(path: RawPath): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
