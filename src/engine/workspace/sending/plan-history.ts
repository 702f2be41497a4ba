import { describeHistory, findShallowEnds, tipsOf } from '../host-tree/history.ts';
import type { WorkingTree } from '../host-tree/inspect-tree.ts';
import { fullHistoryEnds, listCommits, reachableCommits } from '../host-tree/known-commits.ts';
import type { Manifest } from './manifest.ts';

export interface HistoryInput {
  readonly manifest: Pick<Manifest, 'commits' | 'texts' | 'history'>;
  /** HEAD as it was sent then */
  readonly previousHead?: string;
  /** The guest's HEAD is elsewhere, and to be set back: it may not have what was sent with it any more */
  readonly isHeadLost: boolean;
  readonly fullHistory: boolean;
}

/** Which commits a guest lacks. */
export interface History {
  /** Where the history that the guest is to have ends */
  readonly ends: readonly string[];
  /** Ends that it does not know yet */
  readonly newEnds: readonly string[];
  /** Commits that it has, and which are no ends, or not any more */
  readonly deepened: readonly string[];
  /** For the manifest */
  readonly commits?: readonly string[];
  /** Commits that the guest lacks; absent: anything */
  readonly missing?: readonly string[];
  /** Commits that it has, and from which the missing ones differ by a part of their files */
  readonly boundary: readonly string[];
}

/** Compares the history that is to travel with what the guest was sent. */
export async function planHistory(tree: WorkingTree, input: HistoryInput): Promise<History> {
  const { manifest, isHeadLost, fullHistory } = input;
  const isSame = manifest.history !== undefined && manifest.history === (await describeHistory(tree));
  if (!isSame || isHeadLost || (fullHistory && manifest.commits !== undefined))
    return compareHistory(tree, input);
  const { commits } = manifest;
  return {
    ends: sentEnds(manifest),
    newEnds: [],
    deepened: [],
    commits,
    missing: [],
    boundary: tipsOf(tree),
  };
}

/** Where the history ended that the guest was sent. */
function sentEnds({ texts }: HistoryInput['manifest']): string[] {
  return texts?.['shallow']?.split('\n').filter(Boolean) ?? [];
}

async function compareHistory(
  tree: WorkingTree,
  { manifest, previousHead, isHeadLost, fullHistory }: HistoryInput,
): Promise<History> {
  const { repository } = tree;
  const { git } = repository;
  const tips = tipsOf(tree);
  // What a guest has once, it goes on having.
  const isFull = fullHistory || manifest.commits === undefined;
  if (tips.length === 0) {
    const commits = isFull ? undefined : [];
    return { ends: [], newEnds: [], deepened: [], commits, missing: [], boundary: [] };
  }
  const ends = await (isFull ? fullHistoryEnds : findShallowEnds)(repository, tips);
  // A cut of before that is in the midst of this history; those of other branches stay, since nothing is sent below them.
  const lifted = isFull ? await liftedEnds(tree, sentEnds(manifest), ends) : [];
  const isFullThere = manifest.commits === undefined && !isHeadLost && lifted.length === 0;
  if (isFull && !isFullThere) return { ends, newEnds: ends, deepened: lifted, boundary: [] };
  const unknown = isFullThere ? await commitsSince(git, tips, previousHead) : undefined;
  const commits = unknown ?? (await listCommits(repository, tips, ends));
  const known = new Set(isHeadLost ? [] : manifest.commits);
  const missing = [...commits.keys()].filter((commit) =>
    unknown ? unknown.has(commit) : !known.has(commit),
  );
  const isMissing = new Set(missing);
  const isEnd = new Set(ends);
  const around = missing.flatMap((commit) => commits.get(commit)!).concat(tips);
  return {
    ends,
    newEnds: ends.filter((end) => isMissing.has(end)),
    deepened: [...commits.keys()].filter((commit) => !isMissing.has(commit) && !isEnd.has(commit)),
    commits: isFull ? undefined : [...commits.keys()],
    missing,
    boundary: [...new Set(around)].filter((commit) => !isMissing.has(commit)),
  };
}

async function liftedEnds(
  tree: WorkingTree,
  before: readonly string[],
  now: readonly string[],
): Promise<string[]> {
  const isEnd = new Set(now);
  const others = before.filter((end) => !isEnd.has(end));
  return others.length === 0 ? [] : reachableCommits(tree.repository, others, tipsOf(tree));
}

/** Commits that the tips have and the previous head had not, with their parents; all when the host knows that no more. */
async function commitsSince(
  git: WorkingTree['repository']['git'],
  tips: readonly string[],
  previous: string | undefined,
): Promise<Map<string, readonly string[]>> {
  const input = (lines: readonly string[]) => Buffer.from(lines.map((line) => `${line}\n`).join(''));
  const isThere =
    previous !== undefined &&
    (await git(['cat-file', '-e', `${previous}^{commit}`], { okExitCodes: [1, 128] })).exitCode === 0;
  const lines = isThere ? [...tips, `^${previous}`] : tips;
  const listed = await git(['rev-list', '--parents', '--stdin'], { input: input(lines) });
  const rows = listed.stdout.toString('latin1').split('\n').filter(Boolean);
  return new Map(
    rows.map((row) => {
      const [commit, ...parents] = row.split(' ');
      return [commit!, parents] as const;
    }),
  );
}
