import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { expect, onTestFinished, test } from 'vitest';
import { bundleImage } from '../../../../src/engine/images/bundle/bundle-image.ts';
import { sparseMap } from '../../../../src/engine/images/bundle/bundle-format.ts';
import { pullBundle, type BundlePull } from '../../../../src/engine/images/bundle/pull-bundle.ts';
import { deleteImage } from '../../../../src/engine/images/delete-image.ts';
import { importImage } from '../../../../src/engine/images/import-image.ts';
import { registerImage } from '../../../../src/engine/images/register-image.ts';
import { tagImage } from '../../../../src/engine/images/tag-image.ts';
import type { EngineStream } from '../../../../src/engine/rpc/frame-stream.ts';
import { listImages } from '../../../../src/state/images.ts';
import { imagePaths } from '../../../../src/state/layout.ts';
import { expectNoImages, imageContext, recordedOperation } from '../../../support/image-context.ts';
import { file, tarOf } from '../../../support/tar-builder.ts';

const { signal } = new AbortController();

/** A context with a registered filesystem of 64 MiB, which is mostly holes. */
async function world() {
  const context = imageContext();
  onTestFinished(() => context[Symbol.dispose]());
  const tree = join(context.directory, 'tree');
  mkdirSync(join(tree, 'etc'), { recursive: true });
  writeFileSync(join(tree, 'etc/os-release'), 'PRETTY_NAME="Bundled Linux"\n');
  writeFileSync(join(tree, 'blob'), Buffer.alloc(3_000_000, 'content '));
  const ext4 = join(context.directory, 'mine.ext4');
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-d', tree, ext4, '64M'], { stdio: 'pipe' });
  await registerImage(context, { path: ext4, name: 'mine:1' }, recordedOperation());
  const bundle = await bundleOf(context, 'mine:1');
  const path = join(context.directory, 'mine.tar.zst');
  writeFileSync(path, bundle);
  await deleteImage(context, 'mine:1', signal);
  return {
    context,
    ext4,
    bundle,
    path,
    pull: (more: Partial<BundlePull> = {}) =>
      pullBundle(context, { source: path, ...more }, recordedOperation()),
    /** Pulls the same bundle with other bytes */
    pullBytes: (bytes: Buffer) => {
      writeFileSync(path, bytes);
      return pullBundle(context, { source: path }, recordedOperation());
    },
  };
}

async function bundleOf(context: ReturnType<typeof imageContext>, reference: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const stream: EngineStream = {
    send: async (_type, payload) => void chunks.push(Buffer.from(payload ?? '')),
    onFrame: () => undefined,
  };
  const summary = await bundleImage(context, reference, { operation: recordedOperation(), stream });
  const bytes = Buffer.concat(chunks);
  expect(summary.sha256).toBe(sha256(bytes));
  return bytes;
}

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

test('an image comes back as it left, with an id of its content, and makes the same bundle again', async () => {
  const { context, ext4, bundle, pull } = await world();
  const image = await pull({ sha256: sha256(bundle) });
  expect(image).toMatchObject({
    source: 'bundle',
    names: ['docker.io/library/mine:1'],
    osRelease: { PRETTY_NAME: 'Bundled Linux' },
    sizeBytes: 64 * 2 ** 20,
  });
  const { rootfs } = imagePaths(context.layout, image.id);
  expect(readFileSync(rootfs).equals(readFileSync(ext4))).toBe(true);
  expect(statSync(rootfs).blocks * 512).toBeLessThan(16 * 2 ** 20);
  const again = await bundleOf(context, 'mine:1');
  expect(again.equals(bundle)).toBe(true);
  expect((await pull({ name: 'other' })).id).toBe(image.id);
});

test('GNU tar unpacks a bundle, holes included', async () => {
  const { context, ext4, path } = await world();
  const out = join(context.directory, 'out');
  mkdirSync(out);
  execFileSync('tar', ['--zstd', '-x', '-f', path, '-C', out]);
  expect(readdirSync(out).sort()).toEqual(['manifest.json', 'rootfs.ext4']);
  expect(readFileSync(join(out, 'rootfs.ext4')).equals(readFileSync(ext4))).toBe(true);
  expect(statSync(join(out, 'rootfs.ext4')).blocks * 512).toBeLessThan(16 * 2 ** 20);
  expect(JSON.parse(readFileSync(join(out, 'manifest.json'), 'utf8'))).toMatchObject({
    schemaVersion: 1,
    name: 'mine:1',
  });
});

test('a host that wrote the holes of a file out makes the same bundle of it', async () => {
  const { context, ext4, bundle } = await world();
  const bytes = readFileSync(ext4);
  truncateSync(ext4, 0);
  writeFileSync(ext4, bytes);
  await registerImage(context, { path: ext4, name: 'mine:1' }, recordedOperation());
  expect((await bundleOf(context, 'mine:1')).equals(bundle)).toBe(true);
});

test('a wrong hash, a truncated file and a damaged one are refused', async () => {
  const { context, bundle, pull, pullBytes } = await world();
  await expect(pull({ sha256: '0'.repeat(64) })).rejects.toThrow('has the SHA-256');
  for (const length of [0, 10, 400, bundle.length >> 1, bundle.length - 5])
    await expect(pullBytes(bundle.subarray(0, length)), String(length)).rejects.toThrow(
      '"mine.tar.zst" is no bundle that can be used',
    );
  const damaged = Buffer.from(bundle);
  damaged[bundle.length >> 1]! ^= 0xff;
  await expect(pullBytes(damaged)).rejects.toThrow('is no bundle that can be used');
  await expect(pullBytes(Buffer.from('plain text'.repeat(100)))).rejects.toThrow('is not a tar file');
  expectNoImages(context);
});

test.each([
  ['rootfs.txt', '"rootfs.txt" is its first entry'],
  ['manifest.json', '"manifest.json" is not that of a bundle'],
])('a tar that begins with %s is told as no bundle, and who takes it', async (name, why) => {
  const { context, pullBytes } = await world();
  writeFileSync(join(context.directory, name), '[{"Config":"x.json","Layers":[]}]');
  const bytes = execFileSync('tar', ['-C', context.directory, '-c', name]);
  await expect(pullBytes(bytes)).rejects.toMatchObject({
    message: `"mine.tar.zst" is a tar, but not a bundle: ${why}`,
    hint: 'A root filesystem, or what docker save wrote, is taken with: banger image import FILE',
  });
  expectNoImages(context);
});

test('a bundle that is imported is told as one, and who takes it', async () => {
  const { context, bundle } = await world();
  const path = join(context.directory, 'mine.tar.zst');
  writeFileSync(path, bundle);
  await expect(importImage(context, { path, name: 'x' }, recordedOperation())).rejects.toMatchObject({
    message: `"${path}" is a bundle, which has an image's filesystem in it`,
    hint: `Take it with: banger image pull ${path}`,
  });
  expectNoImages(context);
});

test('a bundle does not take a name from another image unless it is told to', async () => {
  const { context, ext4, pull } = await world();
  const other = join(context.directory, 'other.ext4');
  execFileSync('cp', [ext4, other]);
  await registerImage(context, { path: other, name: 'mine:1' }, recordedOperation());
  await expect(pull()).rejects.toThrow('Another image has the name "mine:1"');
  expect(listImages(context.db)).toMatchObject([{ source: 'register', names: [expect.anything()] }]);
  expect((await pull({ name: 'mine:1' })).source).toBe('bundle');
});

test('prune and delete leave an image alone while it is bundled', async () => {
  const { context, pull } = await world();
  await pull();
  let refused: unknown;
  const stream: EngineStream = {
    send: async () => {
      refused ??= await deleteImage(context, 'mine:1', signal).catch((error: unknown) => error);
    },
    onFrame: () => undefined,
  };
  await bundleImage(context, 'mine:1', { operation: recordedOperation(), stream });
  expect(String(refused)).toContain('is used by work in progress');
  await tagImage(context, { reference: 'mine:1', name: 'later' }, signal);
});

test('others get their turns while the map of half a million stretches is made, whatever its pieces', async () => {
  const stretches = Array.from({ length: 500_000 }, (_, index) => ({ offset: 2 * index, length: 1 }));
  const pieces: Buffer[] = [];
  let turns = 0;
  let isOver = false;
  const takeTurn = (): void => {
    turns++;
    if (!isOver) setImmediate(takeTurn);
  };
  setImmediate(takeTurn);
  for await (const piece of sparseMap(1_000_000, stretches)) pieces.push(piece);
  isOver = true;
  expect(turns).toBeGreaterThan(2);
  const numbers = [...stretches.flatMap(({ offset, length }) => [offset, length]), 1_000_000, 0];
  const map = Buffer.from(`500001\n${numbers.join('\n')}\n`);
  const made = Buffer.concat(pieces);
  expect(made.length).toBe(Math.ceil(map.length / 512) * 512);
  expect(made.subarray(0, map.length).equals(map)).toBe(true);
  expect(made.subarray(map.length).every((byte) => byte === 0)).toBe(true);
});

test('the name that a bundle brings must be one that users can give', async () => {
  const { context, bundle, pullBytes } = await world();
  for (const name of ['base', 'UPPER case', 'a@sha256:00']) {
    const tar = zstdDecompressSync(bundle);
    const manifest = JSON.parse(tar.subarray(512, tar.indexOf(0, 512)).toString()) as object;
    const rest = tar.subarray(512 + Math.ceil((tar.indexOf(0, 512) - 512) / 512) * 512);
    const head = tarOf([file('manifest.json', JSON.stringify({ ...manifest, name }))]);
    const changed = zstdCompressSync(Buffer.concat([head.subarray(0, head.length - 1024), rest]));
    await expect(pullBytes(changed), name).rejects.toThrow('brings a name that no image can have');
  }
  expectNoImages(context);
});
