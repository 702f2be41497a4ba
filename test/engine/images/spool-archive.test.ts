import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { importImage } from '../../../src/engine/images/import-image.ts';
import { defaultLimits } from '../../../src/engine/images/layers/conversion-limits.ts';
import { spoolArchive } from '../../../src/engine/images/spool-archive.ts';
import { imageContext, recordedOperation } from '../../support/image-context.ts';
import { withSmallDisk } from '../../support/small-disk.ts';
import { file, tarOf } from '../../support/tar-builder.ts';
import { tempDirectory } from './layers/image-inspector.ts';

const mib = 2 ** 20;

test('an archive is written down as it was before it was packed, with its progress told', async () => {
  using directory = tempDirectory();
  const bytes = tarOf([file('manifest.json', 'x'.repeat(3_000_000))]);
  const from = join(directory.path, 'a.tar.gz');
  const to = join(directory.path, 'a.tar');
  writeFileSync(from, gzipSync(bytes));
  const operation = recordedOperation();
  await spoolArchive(from, to, { operation });
  expect(readFileSync(to).equals(bytes)).toBe(true);
  expect(operation.progressed.at(-1)).toEqual({ done: bytes.length, unit: 'bytes' });
});

test('an archive that unpacks to far more than it is gets refused', async () => {
  using directory = tempDirectory();
  const from = join(directory.path, 'bomb.tar.gz');
  writeFileSync(from, gzipSync(tarOf([file('blobs/sha256/0', Buffer.alloc(32 * mib))])));
  const spool = (limits: Partial<typeof defaultLimits>): Promise<void> =>
    spoolArchive(from, `${from}.${Object.keys(limits)[0]}`, {
      operation: recordedOperation(),
      limits: { ...defaultLimits, ...limits },
    });
  await expect(spool({ expansionFreeBytes: mib })).rejects.toMatchObject({
    code: 'invalid_argument',
    message: `"${from}" unpacks to more than 200 times its compressed size`,
  });
  await expect(spool({ streamBytes: mib })).rejects.toThrow(`takes the image over ${mib} bytes`);
  expect(statSync(`${from}.streamBytes`).size).toBeLessThan(2 * mib);
});

test('an archive leaves room for the image that is made of it', async (context) => {
  await withSmallDisk(context, '16m', async (disk) => {
    using directory = tempDirectory();
    const from = join(directory.path, 'large.tar.gz');
    writeFileSync(from, gzipSync(tarOf([file('blobs/sha256/0', Buffer.alloc(32 * mib))])));
    const to = join(disk.path, 'large.tar');
    await expect(spoolArchive(from, to, { operation: recordedOperation() })).rejects.toMatchObject({
      code: 'host_unsupported',
      message: expect.stringContaining(
        `unpacks to more than half of the space that is free at "${disk.path}"`,
      ),
    });
    expect(statSync(to).size).toBeLessThanOrEqual(8 * mib);
  });
});

test('a root filesystem is not written down to find out that it is none', async () => {
  using context = imageContext();
  const path = join(context.directory, 'rootfs.tar.gz');
  writeFileSync(path, gzipSync(tarOf([{ ...file('etc/passwd'), pax: { mtime: '1.5' } }])));
  const operation = recordedOperation();
  await importImage(context, { path, name: 'app' }, operation);
  expect(operation.stages).toContain('Converting layers');
  expect(operation.stages).not.toContain('Decompressing archive');
});
