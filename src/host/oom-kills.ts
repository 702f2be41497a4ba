import { readFile } from 'node:fs/promises';

/** Processes that the kernel has killed for want of memory since the host booted, those of memory limits included. */
export async function countOomKills(): Promise<number> {
  const text = await readFile('/proc/vmstat', 'utf8').catch(() => '');
  return Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0);
}
