import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { watchRoom } from '../../../src/host/drivers/firecracker/room-watch.ts';
import { withLoopFilesystem } from '../../support/loop-filesystem.ts';
import { withSmallDisk } from '../../support/small-disk.ts';

const mib = 1024 * 1024;

/** How often a guest was made to stand still, once it was looked some times at a filesystem that is full. */
async function pausesOn(directory: string, kind: 'dense' | 'sparse'): Promise<number> {
  const disk = join(directory, kind);
  writeFileSync(disk, Buffer.alloc(mib, 1), { flush: true });
  if (kind === 'sparse') truncateSync(disk, 2 * mib);
  let [asked, paused] = [0, 0];
  const watching = watchRoom(disk, {
    pause: async () => void paused++,
    freeBytes: async () => (asked++, 0),
  });
  try {
    await vi.waitFor(() => expect(paused > 0 || asked > 2).toBe(true), 30_000);
    return paused;
  } finally {
    watching.stop();
  }
}

test('a guest whose disk has holes stands still before the host is full, on any filesystem', async (context) => {
  await withSmallDisk(context, '8m', async ({ path }) => expect(await pausesOn(path, 'sparse')).toBe(1));
});

test('one whose disk has all of its room goes on, where it is written in place', async (context) => {
  await withSmallDisk(context, '8m', async ({ path }) => expect(await pausesOn(path, 'dense')).toBe(0));
  await withLoopFilesystem(context, 'ext4', async (path) => expect(await pausesOn(path, 'dense')).toBe(0));
});

test.for(['xfs', 'btrfs'] as const)(
  'on %s, where blocks are shared or copied, it stands still as well',
  async (kind, context) => {
    await withLoopFilesystem(context, kind, async (path) => {
      expect(await pausesOn(path, 'dense')).toBe(1);
    });
  },
);
