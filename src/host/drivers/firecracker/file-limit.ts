import { stat } from 'node:fs/promises';
import type { Exec } from '../../exec.ts';
import { hasCapabilities } from '../../own-capabilities.ts';

/**
 * The console's log is cut at times of ours: until then it may be as long as this. So may the VMM's own be in all: it
 * goes on after a cut where it was.
 */
const leastBytes = 8 * 1024 ** 3;

/**
 * The largest file that a jailed VMM may write: its disk, which is the largest that it has to. Undefined where that is
 * a device, of which no limit knows, and where nobody could raise it when the disk grows.
 */
export async function fileLimit(disk: string): Promise<number | undefined> {
  if (!hasCapabilities(['sysResource'])) return undefined;
  const found = await stat(disk);
  return found.isFile() ? Math.max(found.size, leastBytes) : undefined;
}

/** Lets a VMM that runs write to the end of a disk that has grown. */
export async function raiseFileLimit(exec: Exec, pid: number, disk: string): Promise<void> {
  const bytes = await fileLimit(disk);
  if (bytes !== undefined) await exec(['prlimit', '--pid', String(pid), `--fsize=${bytes}:${bytes}`]);
}
