import type { WorkspacePlan } from './workspace-methods.ts';

type Stayed = Pick<WorkspacePlan, 'untracked' | 'ignored' | 'leftBehind'>;

/** What of a tree is not sent, for whoever sends it: a line for each kind of which there is something. */
export function leftBehindText({ untracked, ignored, leftBehind }: Stayed): string[] {
  return [...filesText({ untracked, ignored }), ...referencesText(leftBehind)];
}

function filesText({ untracked, ignored }: Omit<Stayed, 'leftBehind'>): string[] {
  const stay = (count: number, what: string): string => {
    return `${count} ${what}${count === 1 ? ' stays' : 's stay'} behind`;
  };
  return [
    ...(untracked > 0
      ? [`${stay(untracked, 'untracked file')}; to send untracked files: --include-untracked`]
      : []),
    ...(ignored > 0 ? [`${stay(ignored, 'ignored path')}; to send one, such as .env: --include .env`] : []),
  ];
}

/** Other branches and the like, which `git branch` in the guest does not show. */
function referencesText({ branches, tags, stashes }: Stayed['leftBehind']): string[] {
  const parts = [
    branches > 0 ? `${branches} other ${branches === 1 ? 'branch' : 'branches'}` : '',
    tags > 0 ? `${tags} ${tags === 1 ? 'tag' : 'tags'}` : '',
    stashes > 0 ? `${stashes} ${stashes === 1 ? 'stash' : 'stashes'}` : '',
  ].filter((part) => part !== '');
  if (parts.length === 0) return [];
  const last = parts.pop()!;
  const all = parts.length === 0 ? last : `${parts.join(', ')} and ${last}`;
  return [`${all} ${branches + tags + stashes === 1 ? 'stays' : 'stay'} behind`];
}
