import { readShallowFile } from './history.ts';
import type { Repository } from './repository.ts';

/** Commits that travel: those reachable from the tips, up to the ends. With their parents, as far as these travel too. */
export async function listCommits(
  { git }: Repository,
  tips: readonly string[],
  ends: readonly string[],
): Promise<Map<string, readonly string[]>> {
  const isEnd = new Set(ends);
  const found = new Map<string, readonly string[]>();
  let wanted = await onlyCommits(git, tips);
  while (wanted.length > 0) {
    const input = Buffer.from(wanted.map((commit) => `${commit}\n`).join(''));
    const listed = await git(['rev-list', '--parents', '--max-count=200', '--stdin'], { input });
    const parentsOf = new Map<string, readonly string[]>();
    for (const line of listed.stdout.toString('latin1').split('\n')) {
      const [commit, ...parents] = line.split(' ');
      if (commit) parentsOf.set(commit, parents);
    }
    const missing: string[] = [];
    const queue = wanted;
    for (let commit = queue.pop(); commit !== undefined; commit = queue.pop()) {
      if (found.has(commit)) continue;
      const parents = isEnd.has(commit) ? [] : parentsOf.get(commit);
      // Further away than was asked for; never a commit that was listed, so that this ends.
      if (parents === undefined) missing.push(commit);
      else {
        found.set(commit, parents);
        queue.push(...parents);
      }
    }
    wanted = missing;
  }
  return found;
}

/** Without what is no commit: git needs trees, too, to go on with some merges. */
async function onlyCommits(git: Repository['git'], tips: readonly string[]): Promise<string[]> {
  if (tips.length === 0) return [];
  const input = Buffer.from([...new Set(tips)].map((tip) => `${tip}\n`).join(''));
  const listed = await git(['rev-list', '--no-walk=unsorted', '--stdin'], { input });
  return listed.stdout.toString('latin1').split('\n').filter(Boolean);
}

/** Where the whole history of the host's repository ends: nowhere, unless that is shallow itself. */
export async function fullHistoryEnds(
  { git, head, paths }: Repository,
  tips: readonly string[],
): Promise<string[]> {
  const ends = await readShallowFile(paths.shallow);
  const wanted = head === undefined ? tips : [head, ...tips];
  if (wanted.length === 0 || ends.size === 0) return [];
  const input = Buffer.from(wanted.map((tip) => `${tip}\n`).join(''));
  const listed = await git(['rev-list', '--stdin'], { input });
  return listed.stdout
    .toString('latin1')
    .split('\n')
    .filter((commit) => ends.has(commit));
}

/** Those of some commits that a history has in it; they may be gone from this repository. */
export async function reachableCommits(
  { git }: Repository,
  commits: readonly string[],
  tips: readonly string[],
): Promise<string[]> {
  const list = async (words: readonly string[], lines: readonly string[]): Promise<Set<string>> => {
    const input = Buffer.from(lines.map((line) => `${line}\n`).join(''));
    const listed = await git(['rev-list', ...words, '--stdin'], { input });
    return new Set(listed.stdout.toString('latin1').split('\n'));
  };
  const present = await list(['--no-walk=unsorted', '--ignore-missing'], commits);
  const there = commits.filter((commit) => present.has(commit));
  const beside = await list([], [...there, ...tips.map((tip) => `^${tip}`)]);
  return there.filter((commit) => !beside.has(commit));
}

/** Those of some objects that a repository has, whatever they are. */
export async function knownObjects(
  { git }: Pick<Repository, 'git'>,
  oids: readonly string[],
): Promise<Set<string>> {
  if (oids.length === 0) return new Set();
  const input = Buffer.from(oids.map((oid) => `${oid}\n`).join(''));
  const checked = await git(['cat-file', '--batch-check=%(objectname) %(objecttype)'], { input });
  const lines = checked.stdout.toString('latin1').matchAll(/^([0-9a-f]+) (?:commit|tag|tree|blob)$/gm);
  return new Set([...lines].map(([, oid]) => oid!));
}
