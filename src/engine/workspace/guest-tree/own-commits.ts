import { inside } from './inner-repositories.ts';
import type { GuestWorkspace } from './guest-changes.ts';
import { knownObjects } from '../host-tree/known-commits.ts';
import type { Repository } from '../host-tree/repository.ts';

/**
 * Names of branches and stashes of a guest with commits that none of some repositories of the host has: all of them, or
 * those that are not merged into the workspace's HEAD.
 */
export async function findOwn(
  workspace: GuestWorkspace,
  which: 'own' | 'unmerged',
  repositories: () => AsyncIterable<Repository> | Iterable<Repository>,
): Promise<string[]> {
  const listed = (await inside(workspace, which)).toString('utf8').split('\n');
  const names = new Map<string, string>();
  for (const line of listed) {
    const [, oid, name] = /^([0-9a-f]{40,64}) (.+)$/.exec(line) ?? [];
    if (oid !== undefined) names.set(oid, name!.replace(/refs\/(?:heads\/)?/, ''));
  }
  if (names.size === 0) return [];
  for await (const repository of repositories()) {
    for (const oid of await knownObjects(repository, [...names.keys()])) names.delete(oid);
    if (names.size === 0) break;
  }
  return [...names.values()];
}
