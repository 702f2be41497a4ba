import type { Repository } from './repository.ts';

/** What a repository has that is no part of the branch that travels. */
export interface LeftBehind {
  readonly branches: number;
  readonly tags: number;
  readonly stashes: number;
}

export interface OtherReferences {
  readonly leftBehind: LeftBehind;
  /** Objects in whose place git shows others here */
  readonly replaced: number;
}

/** Counts what of a repository's references stays on the host. */
export async function countOthers({ git, branch }: Repository): Promise<OtherReferences> {
  const places = ['refs/heads', 'refs/tags', 'refs/stash', 'refs/replace'];
  const listed = await git(['for-each-ref', '--format=%(refname)', ...places]);
  const names = listed.stdout.toString('latin1').split('\n').filter(Boolean);
  const own = Buffer.from(`refs/heads/${branch ?? ''}`).toString('latin1');
  const count = (start: string): number =>
    names.filter((name) => name.startsWith(start) && name !== own).length;
  const stashes = names.includes('refs/stash')
    ? Number((await git(['rev-list', '--walk-reflogs', '--count', 'refs/stash'])).stdout.toString('latin1'))
    : 0;
  const leftBehind = { branches: count('refs/heads/'), tags: count('refs/tags/'), stashes };
  return { leftBehind, replaced: count('refs/replace/') };
}
