import { setTimeout as sleep } from 'node:timers/promises';
import { takeEngineLock, type Database, type SqliteAddon } from '../state/database.ts';
import type { Layout } from '../state/layout.ts';

/** How long a new engine waits for one before it that is on its way out. */
const lockTimeoutMs = 10_000;
const lockPollMs = 25;

/** The lock of a state directory; undefined when another engine has it and is there to stay. */
export async function waitForLock(layout: Layout, addon: SqliteAddon): Promise<Database | undefined> {
  const deadline = performance.now() + lockTimeoutMs;
  for (;;) {
    const lock = takeEngineLock(layout.engineLock, addon);
    if (lock) return lock;
    // An engine that answers is there to stay, or hands over; one that does not is on its way out.
    if ((await isListening(layout.engineSocket)) || performance.now() > deadline) return undefined;
    await sleep(lockPollMs);
  }
}

async function isListening(path: string): Promise<boolean> {
  const { connect } = await import('node:net');
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
