import { existsSync, mkdirSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { deleteImage } from '../../../src/engine/images/delete-image.ts';
import { holdImage } from '../../../src/engine/images/hold-image.ts';
import { imageServices, type ImagesContext } from '../../../src/engine/images/image-services.ts';
import { diskBytes, pruneImages } from '../../../src/engine/images/prune-images.ts';
import { pullImage } from '../../../src/engine/images/pull-image.ts';
import {
  blobPath,
  partialBlobPath,
  tidyBlobs,
  trimPartials,
} from '../../../src/engine/images/registry/blob-files.ts';
import type { PruneItem } from '../../../src/engine/rpc/image-prune-methods.ts';
import { listImages, type Image } from '../../../src/state/images.ts';
import { imagePaths } from '../../../src/state/layout.ts';
import { addVm } from '../../support/add-vm.ts';
import { concatenate, imageContext, recordedOperation } from '../../support/image-context.ts';
import { putImage, sha256, startRegistry, type FakeRegistry } from '../../support/registry.ts';

const { signal } = new AbortController();

async function pull(context: ImagesContext, registry: FakeRegistry, name: string): Promise<Image> {
  return pullImage(context, `${registry.host}/${name}`, recordedOperation());
}

const prune = (context: ImagesContext, params: { all?: boolean; dryRun?: boolean } = {}) =>
  pruneImages(context, { all: false, dryRun: false, ...params }, recordedOperation());

const shown = (items: readonly PruneItem[]): string[] =>
  items.map(({ id, why }) => `${id}: ${why}`).toSorted();

test('an image whose name has moved on goes, with the layers that nobody else has', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  putImage(registry, 'app', { layers: ['shared', 'old'] });
  const old = await pull(context, registry, 'app');
  putImage(registry, 'app', { layers: ['shared', 'new'] });
  const fresh = await pull(context, registry, 'app');

  const report = await prune(context);
  expect(shown(report.removed)).toEqual(
    [`${old.id}: has no name, and no VM`, `${sha256('old')}: a layer of no image here`].toSorted(),
  );
  expect(report.kept.map(({ id }) => id).toSorted()).toEqual(
    [fresh.id, sha256('new'), sha256('shared')].toSorted(),
  );
  expect(report.freedBytes).toBeGreaterThan(0);
  expect(existsSync(imagePaths(context.layout, old.id).directory)).toBe(false);
  expect(existsSync(imagePaths(context.layout, fresh.id).rootfs)).toBe(true);
  expect(readdirSync(context.layout.blobsDirectory).toSorted()).toEqual(
    [sha256('new'), sha256('shared')].map((digest) => digest.slice(7)).toSorted(),
  );
});

test('a dry run tells the same and removes nothing', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  putImage(registry, 'app', { layers: ['one'] });
  await pull(context, registry, 'app');
  putImage(registry, 'app', { layers: ['two'] });
  await pull(context, registry, 'app');
  const before = readdirSync(context.layout.blobsDirectory);
  const plan = await prune(context, { dryRun: true });
  expect(listImages(context.db)).toHaveLength(2);
  expect(readdirSync(context.layout.blobsDirectory)).toEqual(before);
  expect(await prune(context)).toEqual(plan);
});

test('with --all only what a VM uses stays, and nothing in the cache', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  putImage(registry, 'used', { layers: ['used'] });
  putImage(registry, 'idle', { layers: ['idle'] });
  const used = await pull(context, registry, 'used');
  const idle = await pull(context, registry, 'idle');
  addVm(context, 'web', used.id);
  const report = await prune(context, { all: true });
  expect(shown(report.removed)).toEqual(
    [
      `${idle.id}: no VM uses it`,
      `${sha256('idle')}: a layer of no image here`,
      `${sha256('used')}: a download, unpacked in ${registry.host}/used:latest`,
    ].toSorted(),
  );
  expect(shown(report.kept)).toEqual([`${used.id}: used by VM "web"`]);
  expect(listImages(context.db).map(({ id }) => id)).toEqual([used.id]);
  expect(readdirSync(context.layout.blobsDirectory)).toEqual([]);
});

test('an image that work in progress needs is not removed, by prune or by delete', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  putImage(registry, 'held', { layers: ['held'] });
  await pull(context, registry, 'held');
  {
    using held = await holdImage(context, `${registry.host}/held`, recordedOperation());
    expect(shown((await prune(context, { all: true })).kept)).toEqual([
      `${held.image.id}: used by work in progress`,
    ]);
    await expect(deleteImage(context, `${registry.host}/held`, signal)).rejects.toMatchObject({
      code: 'busy',
    });
  }
  await deleteImage(context, `${registry.host}/held`, signal);
});

test('layers of a pull that goes on are not removed under it', async () => {
  await using registry = await startRegistry();
  const converts = Promise.withResolvers<void>();
  const canConvert = Promise.withResolvers<void>();
  using context = imageContext({
    tools: {
      convert: async (options) => {
        converts.resolve();
        await canConvert.promise;
        return concatenate(options);
      },
    },
  });
  putImage(registry, 'app', { layers: ['one', 'two'] });
  const pulled = pull(context, registry, 'app');
  await converts.promise;
  const report = await prune(context, { all: true });
  expect(report.removed).toEqual([]);
  expect(report.kept.every(({ why }) => why === 'used by work in progress')).toBe(true);
  expect(report.kept.some(({ kind }) => kind === 'staging')).toBe(true);
  canConvert.resolve();
  await pulled;
});

test('a layer that somebody removes between download and conversion is fetched again', async () => {
  await using registry = await startRegistry();
  using context = imageContext({
    tools: {
      convert: async (options) => {
        const blobs = ['one', 'two'].map((layer) => blobPath(context.layout.blobsDirectory, sha256(layer)));
        // Both under their final names: a download that is renamed just now could not be removed.
        while (!blobs.every((path) => existsSync(path))) await new Promise(setImmediate);
        for (const path of blobs) rmSync(path);
        return concatenate(options);
      },
    },
  });
  const { id } = putImage(registry, 'app', { layers: ['one', 'two'] });
  expect((await pull(context, registry, 'app')).id).toBe(id);
  const fetches = registry.requests.filter(({ path }) => path.endsWith(sha256('two')));
  expect(fetches.length).toBe(2);
});

test('holding an image that is removed at that very moment brings it again', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  putImage(registry, 'app');
  const image = await pull(context, registry, 'app');
  const { leases } = imageServices(context);
  const take = leases.images.take.bind(leases.images);
  let isFirst = true;
  leases.images.take = (keys) => {
    if (isFirst) rmSync(imagePaths(context.layout, image.id).directory, { recursive: true });
    isFirst = false;
    return take(keys);
  };
  using held = await holdImage(context, `${registry.host}/app`, recordedOperation());
  expect(existsSync(imagePaths(context.layout, held.image.id).rootfs)).toBe(true);
});

test('partial downloads and what engines left go; a file that is not ours stays', async () => {
  using context = imageContext();
  const { blobsDirectory, imageStagingDirectory } = context.layout;
  mkdirSync(blobsDirectory, { recursive: true });
  mkdirSync(join(imageStagingDirectory, 'image-1-abc'), { recursive: true });
  const partial = `${blobPath(blobsDirectory, sha256('x'))}.partial`;
  writeFileSync(partial, 'half');
  writeFileSync(join(blobsDirectory, 'notes.txt'), 'mine');
  const report = await prune(context);
  expect(report.removed.map(({ kind, bytes }) => [kind, bytes])).toEqual([
    ['partial', 4],
    ['staging', 0],
  ]);
  expect(readdirSync(blobsDirectory)).toEqual(['notes.txt']);
  expect(readdirSync(imageStagingDirectory)).toEqual([]);
});

test('what its owner removes while it is measured takes no space', async () => {
  using context = imageContext();
  const staging = join(context.directory, 'image-1-x');
  for (let index = 0; index < 50; index++) mkdirSync(join(staging, String(index)), { recursive: true });
  const measured = diskBytes(staging);
  rmSync(staging, { recursive: true });
  expect(await measured).toBe(0);
});

test('an engine that starts keeps a young partial download and removes an old one', async () => {
  using context = imageContext();
  const { blobsDirectory } = context.layout;
  mkdirSync(blobsDirectory, { recursive: true });
  const path = (content: string, suffix: string): string =>
    blobPath(blobsDirectory, sha256(content)) + suffix;
  const old = new Date(Date.now() - 8 * 24 * 60 * 60 * 1000);
  for (const file of [
    path('young', '.partial'),
    path('old', '.partial'),
    path('whole', ''),
    path('x', '.discarded-00000000'),
  ]) {
    writeFileSync(file, 'x');
  }
  utimesSync(path('old', '.partial'), old, old);
  utimesSync(path('whole', ''), old, old);
  await tidyBlobs(blobsDirectory);
  expect(readdirSync(blobsDirectory).toSorted()).toEqual(
    [`${sha256('young').slice(7)}.partial`, sha256('whole').slice(7)].toSorted(),
  );
});

test('unfinished downloads over the limit go, oldest first, but not the youngest and not those in use', async () => {
  using context = imageContext();
  const { blobsDirectory } = context.layout;
  mkdirSync(blobsDirectory, { recursive: true });
  const contents = ['used', 'oldest', 'old', 'young', 'youngest'];
  for (const [hour, content] of contents.entries()) {
    const path = partialBlobPath(blobsDirectory, sha256(content));
    writeFileSync(path, 'x'.repeat(100));
    utimesSync(path, hour * 3600, hour * 3600);
  }
  const left = (): string[] =>
    contents.filter((content) => existsSync(partialBlobPath(blobsDirectory, sha256(content))));
  const trim = (maxBytes: number): Promise<void> =>
    trimPartials(blobsDirectory, { isTaken: (digest) => digest === sha256('used'), maxBytes });
  await trim(500);
  expect(left()).toEqual(contents);
  await trim(350);
  expect(left()).toEqual(['used', 'young', 'youngest']);
  await trim(0);
  expect(left()).toEqual(['used', 'youngest']);
  expect(readdirSync(blobsDirectory)).toHaveLength(2);
});
