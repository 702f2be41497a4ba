import { BangerError } from '../../errors.ts';
import { countOomKills } from '../oom-kills.ts';
import { memoryError } from './vmm-process.ts';

/** How a VMM ended that was being started. */
export interface StartDeath {
  /** What ended it, if it did not end by itself */
  readonly signal: NodeJS.Signals | undefined;
  /** Processes that the kernel had killed for want of memory before it was started */
  readonly oomKillsBefore: number;
}

/** Why a VMM is gone that was killed, which it cannot say itself; undefined for one that ended otherwise. */
export async function killedError(
  title: 'QEMU' | 'Firecracker',
  memoryMib: number,
  { signal, oomKillsBefore }: StartDeath,
): Promise<BangerError | undefined> {
  if (signal !== 'SIGKILL') return undefined;
  if ((await countOomKills()) > oomKillsBefore)
    return memoryError(memoryMib, `the kernel ended ${title} when memory had run out`);
  return new BangerError(
    'command_failed',
    `${title} was killed from outside by SIGKILL when it was started`,
    {
      hint: 'See who did it, if the kernel knows, with: sudo dmesg | tail',
    },
  );
}
