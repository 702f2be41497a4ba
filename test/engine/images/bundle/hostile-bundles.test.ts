import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { expect, onTestFinished, test } from 'vitest';
import { sparseMapPieces } from '../../../../src/engine/images/bundle/bundle-format.ts';
import { pullBundle } from '../../../../src/engine/images/bundle/pull-bundle.ts';
import { readBundle } from '../../../../src/engine/images/bundle/read-bundle.ts';
import { defaultLimits } from '../../../../src/engine/images/layers/conversion-limits.ts';
import type { Image } from '../../../../src/state/images.ts';
import { expectNoImages, imageContext, recordedOperation } from '../../../support/image-context.ts';
import { directory, file, symlink, tarOf, type EntrySpec } from '../../../support/tar-builder.ts';

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

interface Forged {
  readonly name?: string;
  readonly sha256?: string;
  readonly sizeBytes?: number;
  readonly architecture?: string;
  readonly config?: unknown;
}

/** A bundle by hand, whose filesystem is one of 2 MiB with a map that is as it should be. */
function forged(
  change: Forged = {},
  members?: (manifest: EntrySpec, rootfs: EntrySpec) => EntrySpec[],
): Buffer {
  const data = Buffer.alloc(1 << 20, 'x');
  const size = 2 << 20;
  const stored = Buffer.concat([...sparseMapPieces(size, [{ offset: 0, length: data.length }]), data]);
  const manifest = {
    schemaVersion: 1,
    kind: 'banger-image',
    name: 'forged',
    os: 'linux',
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    config: { env: [] },
    rootfs: { sizeBytes: size, storedBytes: stored.length, sha256: sha256(stored) },
  };
  const changed = {
    ...manifest,
    ...change,
    rootfs: {
      ...manifest.rootfs,
      sha256: change.sha256 ?? manifest.rootfs.sha256,
      sizeBytes: change.sizeBytes ?? size,
    },
  };
  const entries = [
    file('manifest.json', JSON.stringify(changed)),
    file('GNUSparseFile.0/rootfs.ext4', stored, {
      pax: {
        'GNU.sparse.major': '1',
        'GNU.sparse.minor': '0',
        'GNU.sparse.name': 'rootfs.ext4',
        'GNU.sparse.realsize': String(change.sizeBytes ?? size),
      },
    }),
  ] as const;
  return zstdCompressSync(tarOf(members ? members(...entries) : [...entries]));
}

const hostile: readonly (readonly [string, string, () => Buffer])[] = [
  ['a filesystem that is none', 'its filesystem is not ext4', () => forged()],
  ['another hash', '"rootfs.ext4" has the SHA-256', () => forged({ sha256: '1'.repeat(64) })],
  ['a lying size', '"rootfs.ext4" has', () => forged({ sizeBytes: 2 ** 50 })],
  ['another machine', 'is made for linux/vax\\x1b[2J', () => forged({ architecture: 'vax\u001b[2J' })],
  ['a config that is none', '"manifest.json" has a wrong "config.env"', () => forged({ config: { env: 1 } })],
  ['no rootfs', 'ends before the member "rootfs.ext4"', () => forged({}, (manifest) => [manifest])],
  [
    'the wrong order',
    '"rootfs.ext4" is its first entry',
    () => forged({}, (manifest, rootfs) => [rootfs, manifest]),
  ],
  [
    'an escaping member',
    '"../../../tmp/escaped" is its first entry',
    () => forged({}, (manifest, rootfs) => [file('../../../tmp/escaped', 'x'), manifest, rootfs]),
  ],
  [
    'a link for a filesystem',
    'is where a bundle has',
    () => forged({}, (manifest) => [manifest, symlink('rootfs.ext4', '/etc/passwd')]),
  ],
  [
    'one member too many',
    'comes too much',
    () => forged({}, (manifest, rootfs) => [manifest, rootfs, directory('more/')]),
  ],
  [
    'a huge manifest',
    'has 3000000 bytes',
    () => forged({}, (_, rootfs) => [file('manifest.json', Buffer.alloc(3_000_000, ' ')), rootfs]),
  ],
  [
    'data behind the end',
    'has data behind the end',
    () => Buffer.concat([forged(), zstdCompressSync(Buffer.alloc(4 << 20))]),
  ],
];

test.each(hostile)('a bundle with %s is refused, and leaves nothing', async (_, message, bytes) => {
  const context = imageContext();
  onTestFinished(() => context[Symbol.dispose]());
  const path = join(context.directory, 'bad.tar.zst');
  writeFileSync(path, bytes());
  const failure = await pullBundle(context, { source: path }, recordedOperation()).then(
    (image: Image) => image,
    (error: unknown) => error,
  );
  expect(failure).toBeInstanceOf(Error);
  expect(String(failure)).toContain(message);
  expect(String(failure)).not.toContain('\u001b');
  expectNoImages(context);
});

test('a bomb is stopped by what it unpacks to', async () => {
  const context = imageContext();
  onTestFinished(() => context[Symbol.dispose]());
  const path = join(context.directory, 'bomb.tar.zst');
  writeFileSync(
    path,
    zstdCompressSync(tarOf([file('manifest.json', '{}'), file('x', Buffer.alloc(32 << 20))])),
  );
  const limits = { ...defaultLimits, streamBytes: 1 << 20 };
  const rootfs = join(context.directory, 'rootfs');
  await expect(
    readBundle(
      path,
      { shown: 'bomb.tar.zst', rootfs, limits: { ...limits, expansionFreeBytes: 0 } },
      recordedOperation(),
    ),
  ).rejects.toThrow(/unpacks to more than|over 1048576 bytes/);
});
