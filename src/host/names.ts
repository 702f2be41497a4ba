import { lookup } from 'node:dns/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/** True when this host finds an address for a name, within the time. Whether anybody answers there is another question. */
export async function canFindHost(name: string, timeoutMs: number): Promise<boolean> {
  const give = new AbortController();
  try {
    return await Promise.race([
      lookup(name).then(
        () => true,
        () => false,
      ),
      sleep(timeoutMs, false, { signal: give.signal }),
    ]);
  } finally {
    give.abort();
  }
}
