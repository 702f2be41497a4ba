import { readFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BlockFile } from '../../../../src/engine/images/ext4/block-file.ts';
import { tempDirectory } from '../layers/image-inspector.ts';

interface Put {
  readonly position: number;
  readonly length: number;
  readonly value: number;
}

/** Ends as a file that was written put by put, whatever of it was gathered, written at once or left out. */
async function written(puts: readonly Put[], isBlocking: boolean): Promise<Buffer> {
  using temp = tempDirectory();
  const target = path.join(temp.path, 'file');
  const file = await BlockFile.create(target, { isBlocking });
  try {
    // The memory of a put is its caller's again at once.
    const memory = Buffer.alloc(300_000);
    for (const { position, length, value } of puts) {
      file.put(position, memory.subarray(0, length).fill(value));
      file.writeBack();
      await file.ready();
    }
    await file.resize(1_000_000);
  } finally {
    await file.close();
  }
  return readFileSync(target);
}

test.each([true, false])(
  'later puts win, wherever they are and however large (blocking: %s)',
  async (isBlocking) => {
    const put = fc.record({
      position: fc.integer({ min: 0, max: 700_000 }),
      length: fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 100_000, max: 300_000 })),
      value: fc.integer({ min: 0, max: 3 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(put, { maxLength: 12 }), async (puts) => {
        const expected = Buffer.alloc(1_000_000);
        for (const { position, length, value } of puts) expected.fill(value, position, position + length);
        expect((await written(puts, isBlocking)).equals(expected)).toBe(true);
      }),
      { numRuns: 40 },
    );
  },
);

test.each([true, false])(
  'what cannot be written is told where somebody waits (blocking: %s)',
  async (isBlocking) => {
    using temp = tempDirectory();
    const file = await BlockFile.create(path.join(temp.path, 'file'), { isBlocking });
    // Beyond what a file may have.
    file.put(2 ** 50, Buffer.alloc(200_000, 1));
    await expect(file.flush()).rejects.toMatchObject({
      code: 'invalid_state',
    });
    await expect(file.resize(10)).rejects.toThrow();
    await file.close();
  },
);
