import { statSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { BangerError, errnoOf } from '../../errors.ts';
import { cutOffPath } from '../bounded-log.ts';

/** How a VMM is named on its own command line: by this it is known to be ours, and whose. */
export function processName(id: string): string {
  return `banger-${id}`;
}

/** Anybody may give their process our words; only our own is one of ours. */
export function isOurs(pid: number): boolean {
  return statSync(`/proc/${pid}`, { throwIfNoEntry: false })?.uid === process.getuid!();
}

/** A log of the start before is kept as `NAME.before`; what was cut off it, and older ones, go. */
export async function keepPrevious(path: string): Promise<void> {
  await rm(cutOffPath(path), { force: true });
  try {
    await rename(path, `${path}.before`);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}

/** A guest that wants more memory than the host gives; `words` are the VMM's. */
export function memoryError(memoryMib: number, words: string): BangerError {
  return new BangerError(
    'host_unsupported',
    `The host cannot give the guest ${memoryMib} MiB of memory: ${words}`,
    { hint: 'Ask for less: banger vm create --memory 512M …' },
  );
}
