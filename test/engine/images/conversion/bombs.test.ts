import { existsSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { setInterval } from 'node:timers';
import { expect, test } from 'vitest';
import { convertInThread } from '../../../../src/engine/images/conversion/convert-in-thread.ts';
import { threadScript } from '../../../../src/host/assets.ts';
import { hostileLayers } from '../../../support/hostile-layers/all.ts';
import { layerOf, tempDirectory } from '../layers/image-inspector.ts';

/** What the thread may have, and what the layer passes through on its way. */
const allowedBytes = 400 * 2 ** 20;

/** What unpacks whatever its size; zeros are not written. */
const allowedDiskBytes = 8 * 2 ** 30;

const bombs = hostileLayers.filter(({ isSlow }) => isSlow);

test('there are bombs', () => expect(bombs.length).toBeGreaterThan(4));

test.each(bombs)('in memory that is bounded, and before it has filled a disk: $title', async (bomb) => {
  using temp = tempDirectory();
  const layer = layerOf(bomb.bytes());
  const before = process.memoryUsage.rss();
  let peak = before;
  let diskPeak = 0;
  const work = path.join(temp.path, 'work');
  const sampler = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage.rss());
    diskPeak = Math.max(diskPeak, bytesIn(work));
  }, 10);
  const conversion = convertInThread(
    {
      layers: [layer],
      destination: path.join(temp.path, 'rootfs.ext4'),
      workDirectory: work,
      sizeBytes: 256 * 2 ** 20,
      seed: 'sha256:test',
      signal: new AbortController().signal,
      ...(bomb.limits && { limits: bomb.limits }),
    },
    threadScript('conversion'),
  );
  const error: unknown = await conversion.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  clearInterval(sampler);
  if (bomb.error) {
    expect(error).toMatchObject({ code: 'invalid_argument', message: expect.stringMatching(bomb.error) });
    expect((error as Error).message).toContain('layer "test"');
    if (bomb.entry !== undefined) expect((error as Error).message).toContain(`Entry "${bomb.entry}`);
    expect(readdirSync(temp.path)).toEqual(['work']);
  } else {
    expect(error).toBeUndefined();
  }
  expect(readdirSync(work)).toEqual([]);
  if (bomb.diskBytes) expect(diskPeak).toBeGreaterThan(0);
  expect(diskPeak).toBeLessThanOrEqual(bomb.diskBytes ?? allowedDiskBytes);
  expect(peak - before).toBeLessThan(allowedBytes);
});

/** On disk, of files that may go meanwhile. */
function bytesIn(directory: string): number {
  if (!existsSync(directory)) return 0;
  const sizes = readdirSync(directory).map(
    (name) => statSync(path.join(directory, name), { throwIfNoEntry: false })?.blocks ?? 0,
  );
  return sizes.reduce((sum, blocks) => sum + blocks * 512, 0);
}
