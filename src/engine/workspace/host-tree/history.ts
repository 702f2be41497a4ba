import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { errnoOf } from '../../../errors.ts';
import type { WorkingTree } from './inspect-tree.ts';
import type { Repository } from './repository.ts';

/** How many commits travel at most, so that `git log` shows what one is working on. */
const maxCommits = 10;

/**
 * Decides where the history that travels ends: the commits that git is to treat as having no parents.
 *
 * A commit travels with all of its parents or becomes such an end; the newest commits come first. Besides HEAD,
 * whatever else is in `tips` travels; objects in it that are no commits are passed over.
 */
export async function findShallowEnds(
  { git, head, paths }: Repository,
  tips: readonly string[] = [],
): Promise<string[]> {
  const wanted = [...new Set(head === undefined ? tips : [head, ...tips])];
  if (wanted.length === 0) return [];
  const input = Buffer.from(wanted.map((tip) => `${tip}\n`).join(''));
  const list = async (...args: string[]): Promise<(readonly [string, string[]])[]> => {
    const listed = await git(['rev-list', '--parents', '--stdin', ...args], { input });
    return listed.stdout.toString('latin1').split('\n').filter(Boolean).map(parseCommit);
  };
  const [newest, named] = await Promise.all([
    // More than can travel: merges list side branches between the commits that matter.
    list(`--max-count=${maxCommits * 20}`),
    list('--no-walk=unsorted'),
  ]);
  const parentsOf = new Map([...newest, ...named]);
  const commits = named.map(([commit]) => commit);
  return planShallowEnds(commits, parentsOf, await readShallowFile(paths.shallow));
}

function parseCommit(line: string): readonly [commit: string, parents: string[]] {
  const [commit, ...parents] = line.split(' ');
  return [commit!, parents];
}

/** Commits whose parents are unknown or not wanted. `parentsOf` lists commits from the newest to the oldest. */
export function planShallowEnds(
  tips: readonly string[],
  parentsOf: ReadonlyMap<string, readonly string[]>,
  hostEnds: ReadonlySet<string>,
): string[] {
  const taken = new Set(tips);
  const limit = maxCommits - 1 + tips.length;
  const ends: string[] = [];
  for (const [commit, parents] of parentsOf) {
    if (!taken.has(commit)) continue;
    const added = parents.filter((parent) => !taken.has(parent));
    const isEnd = hostEnds.has(commit) || (added.length > 0 && taken.size + added.length > limit);
    if (isEnd) ends.push(commit);
    else for (const parent of added) taken.add(parent);
  }
  const unlisted = [...taken].filter((commit) => !parentsOf.has(commit));
  // An end of a commit without parents is none: it would make a complete history look cut.
  return [...ends, ...unlisted].filter((end) => hostEnds.has(end) || parentsOf.get(end)?.length !== 0);
}

/** Ends of a host repository that is shallow itself. Git lists those commits without their parents. */
export async function readShallowFile(path: string): Promise<Set<string>> {
  try {
    return new Set((await readFile(path, 'latin1')).split('\n').filter(Boolean));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return new Set();
    throw error;
  }
}

/** What the history that travels begins with. */
export function tipsOf({ repository: { head }, state }: WorkingTree): string[] {
  return head === undefined ? [...state.tips] : [head, ...state.tips];
}

/** Tells whether a history that travels can be another one than before. */
export async function describeHistory(tree: WorkingTree): Promise<string> {
  const hash = createHash('sha256');
  const ends = await readShallowFile(tree.repository.paths.shallow);
  hash.update([...tipsOf(tree), '', ...ends].join('\n'));
  return hash.digest('hex');
}
