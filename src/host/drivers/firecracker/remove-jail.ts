import { removeJail } from './chroot.ts';
import { removeControlGroups } from './control-groups.ts';
import { jailDirectory } from './jail.ts';

/**
 * Removes everything that a jailer made for a VM whose VMM has gone. What is gone already, and what there never was,
 * count as removed; one that cannot be removed does not keep the other.
 */
export async function removeJailOf({
  id,
  vmmLog,
}: {
  readonly id: string;
  readonly vmmLog: string;
}): Promise<void> {
  const outcomes = await Promise.allSettled([removeControlGroups(id), removeJail(jailDirectory(vmmLog))]);
  const failed = outcomes.find((outcome) => outcome.status === 'rejected');
  if (failed) throw failed.reason;
}
