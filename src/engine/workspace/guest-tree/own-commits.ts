import { guestGitEnvironment, guestGitSettings } from './changes-script.ts';
import type { GuestWorkspace } from './guest-changes.ts';
import { inside } from './inner-repositories.ts';
import { knownObjects } from '../host-tree/known-commits.ts';
import type { Repository } from '../host-tree/repository.ts';

/** A reference of a guest, or HEAD of a repository inside the tree. */
interface GuestReference {
  readonly name: string;
  /** Path of its repository, empty or ending in a slash */
  readonly prefix: string;
}

/** What banger put there, and what the guest has from elsewhere. */
const notOwn = /^refs\/(?:banger|remotes)\//;

/** More would be asked one by one for too long; of those beyond nothing is known, so they count. */
const mostAsked = 50;

/**
 * Names of branches, stashes, tags and the like of a guest with commits that none of some repositories of the host has,
 * nor any that the guest has fetched from: all of them, or those that are not merged into the workspace's HEAD.
 */
export async function findOwn(
  workspace: GuestWorkspace,
  which: 'own' | 'unmerged',
  repositories: () => AsyncIterable<Repository> | Iterable<Repository>,
): Promise<string[]> {
  const listed = (await inside(workspace, which)).toString('utf8').split('\n');
  const found = new Map<string, GuestReference>();
  for (const line of listed) {
    const [, oid, name, prefix] = /^([0-9a-f]{40,64}) (\S+) (.*)$/.exec(line) ?? [];
    if (oid !== undefined && !notOwn.test(name!)) found.set(oid, { name: name!, prefix: prefix! });
  }
  if (found.size === 0) return [];
  for await (const repository of repositories()) {
    for (const oid of await knownObjects(repository, [...found.keys()])) found.delete(oid);
    if (found.size === 0) break;
  }
  for (const [oid, reference] of [...found].slice(0, mostAsked)) {
    if (await isFetched(workspace, oid, reference)) found.delete(oid);
  }
  return [...found.values()].map(({ name, prefix }) => {
    return `${prefix}${name === 'HEAD' ? '' : name.replace(/^refs\/(?:heads\/)?/, '')}`;
  });
}

/** Whether it is in the history of a branch of another repository. */
async function isFetched(
  { guest, guestPath, ensureGit, signal }: GuestWorkspace,
  oid: string,
  { prefix }: GuestReference,
): Promise<boolean> {
  const ask = ['for-each-ref', '--count=1', '--contains', oid, 'refs/remotes'];
  const argv = [await ensureGit(), '-C', `${guestPath}/${prefix}`, ...guestGitSettings, ...ask];
  const { exit, stdout } = await guest.run(argv, { env: guestGitEnvironment, signal });
  return exit.code === 0 && stdout.length > 0;
}
