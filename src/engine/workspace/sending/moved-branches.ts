import type { BangerError } from '../../../errors.ts';
import { shellQuote } from '../../../host/shell-quote.ts';
import type { WorkingTree } from '../host-tree/inspect-tree.ts';
import { knownObjects } from '../host-tree/known-commits.ts';
import { ownCommits } from './outlive-swap.ts';
import { shortName, type GuestReferencesError } from './reference-guard.ts';
import { WouldBeLostError, type Place } from './workspace-place.ts';

/**
 * Commits at which branches of the guest are. Throws when the host lacks one, since the guest has made it, and when an
 * update cannot be for another reason.
 */
export async function movedTo(
  place: Place,
  { repository }: WorkingTree,
  { head, moved, inTheWay }: GuestReferencesError,
): Promise<readonly string[]> {
  if (head !== undefined) throw isElsewhere(place, head, repository.branch);
  const known = await knownObjects(repository, [...moved.values()]);
  const own = [...moved].filter(([, oid]) => !known.has(oid));
  if (own.length > 0)
    throw ownCommits(
      place,
      own.map(([name]) => name),
    );
  const [blocked] = inTheWay;
  if (blocked) throw noRoom(place, blocked);
  return [...known];
}

/** What is new on a branch would be mixed with another one. */
function isElsewhere(place: Place, head: string, branch: string | undefined): BangerError {
  const isDetached = /^[0-9a-f]{40,64}$/.test(head);
  const where = isDetached ? 'on no branch now' : `on branch "${shown(head)}" now`;
  const here = branch === undefined ? 'HEAD' : `"${shortName(branch)}"`;
  const back = branch === undefined ? ['switch', '--detach'] : ['switch', shortName(branch)];
  return refused(
    place,
    `is ${where}, and ${here} has moved here`,
    `Switch back there: ${inGuest(place, back)}`,
  );
}

function noRoom(place: Place, [wanted, other]: GuestReferencesError['inTheWay'][number]): BangerError {
  return refused(
    place,
    `has a branch "${shown(other)}": there is no room for "${wanted}"`,
    `Rename it there: ${inGuest(place, ['branch', '-m', shown(other), 'NAME'])}`,
  );
}

function refused(place: Place, what: string, hint: string): BangerError {
  const { vm, workspace } = place;
  const message = `"${workspace.guestPath}" in VM "${vm.name}" ${what}`;
  return new WouldBeLostError('invalid_state', message, { hint: `${hint}; or give --overwrite` });
}

function inGuest({ vm, workspace }: Place, words: readonly string[]): string {
  return `banger vm exec ${vm.name} -- ${shellQuote(['git', '-C', workspace.guestPath, ...words])}`;
}

/** A guest's word: nothing that a terminal would obey. */
function shown(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}]/gu, '?').slice(0, 200);
}
