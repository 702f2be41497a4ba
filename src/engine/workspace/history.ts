import { readFile } from 'node:fs/promises';
import { errnoOf } from '../../errors.ts';
import type { Repository } from './repository.ts';

/** How many commits travel at most, so that `git log` shows what one is working on. */
const maxCommits = 10;

/**
 * Decides where the history that travels ends: the commits that git is to treat as having no parents.
 *
 * A commit travels with all of its parents or becomes such an end; the newest commits come first.
 */
export async function findShallowEnds({ git, head, paths }: Repository): Promise<string[]> {
  if (head === undefined) return [];
  // More than can travel: merges list side branches between the commits that matter.
  const listed = await git(['rev-list', '--parents', `--max-count=${maxCommits * 20}`, head]);
  const commits = listed.stdout.toString('latin1').split('\n').filter(Boolean);
  const parentsOf = new Map(
    commits.map((line) => {
      const [commit, ...parents] = line.split(' ');
      return [commit!, parents] as const;
    }),
  );
  return planShallowEnds(head, parentsOf, await readShallowFile(paths.shallow));
}

/** Commits whose parents are unknown or not wanted. `parentsOf` lists commits from the newest to the oldest. */
export function planShallowEnds(
  head: string,
  parentsOf: ReadonlyMap<string, readonly string[]>,
  hostEnds: ReadonlySet<string>,
): string[] {
  const taken = new Set([head]);
  const ends: string[] = [];
  for (const [commit, parents] of parentsOf) {
    if (!taken.has(commit)) continue;
    const added = parents.filter((parent) => !taken.has(parent));
    const isEnd = hostEnds.has(commit) || taken.size + added.length > maxCommits;
    if (isEnd) ends.push(commit);
    else for (const parent of added) taken.add(parent);
  }
  const unlisted = [...taken].filter((commit) => !parentsOf.has(commit));
  // An end of a commit without parents is none: it would make a complete history look cut.
  return [...ends, ...unlisted].filter((end) => hostEnds.has(end) || parentsOf.get(end)?.length !== 0);
}

/** Ends of a host repository that is shallow itself. Git lists those commits without their parents. */
async function readShallowFile(path: string): Promise<Set<string>> {
  try {
    return new Set((await readFile(path, 'latin1')).split('\n').filter(Boolean));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return new Set();
    throw error;
  }
}
