import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { BangerError, errnoOf } from '../errors.ts';

export interface BorrowedHomeInput {
  readonly uid: number;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly directories: readonly string[];
}

/**
 * Throws `invalid_state` when root, by way of sudo, is about to make files of its own in the home of the user who
 * called it: that user could not use banger afterwards.
 */
export function refuseBorrowedHome({ uid, env, directories }: BorrowedHomeInput): void {
  const caller = env['SUDO_UID'];
  if (uid !== 0 || caller === undefined || caller === '0') return;
  for (const directory of directories) {
    const owner = ownerOf(directory);
    if (owner === 0) continue;
    throw new BangerError(
      'invalid_state',
      `You are root by way of sudo, and "${directory}" is, or would be, in a directory of user ${owner}`,
      { hint: 'banger needs no root: run it without sudo. For VMs of root itself: sudo -H banger …' },
    );
  }
}

/** The owner of a directory, or of the nearest one above it that is there. */
function ownerOf(directory: string): number {
  try {
    return statSync(directory).uid;
  } catch (error) {
    const isMissing = errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR';
    const parent = dirname(directory);
    if (!isMissing || parent === directory) throw error;
    return ownerOf(parent);
  }
}
