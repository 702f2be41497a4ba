import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { PieceWriter } from '../../../../src/engine/images/registry/piece-writer.ts';
import { tempDirectory } from '../layers/image-inspector.ts';

test('all chunks are written in order, and every position told is in the file', async () => {
  using temp = tempDirectory();
  const path = join(temp.path, 'blob');
  await using file = await open(path, 'wx+');
  const chunks = [1, 70_000, 1_500_000, 3, 524_288, 65_536, 0, 9].map((length) => randomBytes(length));
  const expected = Buffer.concat(chunks);
  const told: number[] = [];
  const writer = new PieceWriter(file, 0, (end) => {
    told.push(end);
    expect(readFileSync(path).equals(expected.subarray(0, end))).toBe(true);
  });
  for (const chunk of chunks) {
    // The memory of a chunk is somebody else's again when it has been added.
    const memory = Buffer.from(chunk);
    await writer.add(memory);
    memory.fill(0);
  }
  await writer.flush();
  expect(told.at(-1)).toBe(expected.length);
  expect(told).toEqual(told.toSorted((left, right) => left - right));
  expect(readFileSync(path).equals(expected)).toBe(true);
});

test('a chunk that comes alone is written without waiting for more', async () => {
  using temp = tempDirectory();
  await using file = await open(join(temp.path, 'blob'), 'wx+');
  await file.write('begun ');
  const written = Promise.withResolvers<number>();
  const writer = new PieceWriter(file, 6, written.resolve);
  await writer.add(Buffer.from('and gone on with'));
  expect(await written.promise).toBe(22);
  expect(readFileSync(join(temp.path, 'blob'), 'utf8')).toBe('begun and gone on with');
});

test('chunks that come faster than they are written become fewer writes', async () => {
  const sizes: number[] = [];
  const slow = {
    async write(_: Buffer, __: number, length: number) {
      await new Promise(setImmediate);
      sizes.push(length);
      return { bytesWritten: length };
    },
  } as unknown as FileHandle;
  const writer = new PieceWriter(slow, 0, () => undefined);
  for (let count = 0; count < 100; count++) await writer.add(Buffer.alloc(10_000));
  await writer.flush();
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(1_000_000);
  expect(sizes.length).toBeLessThan(10);
});

test('what goes wrong with a write is thrown to whoever adds or flushes', async () => {
  const full = {
    write: () => Promise.reject(Object.assign(new Error('no space'), { code: 'ENOSPC' })),
  } as unknown as FileHandle;
  const writer = new PieceWriter(full, 0, () => undefined);
  const adding = (async () => {
    for (;;) await writer.add(Buffer.alloc(100_000));
  })();
  await expect(adding).rejects.toMatchObject({ code: 'ENOSPC' });
  await expect(writer.flush()).rejects.toMatchObject({ code: 'ENOSPC' });
});
