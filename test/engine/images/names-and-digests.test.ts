import { join } from 'node:path';
import { rmSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { findImage, namePulled } from '../../../src/engine/images/find-image.ts';
import { showImageRoute } from '../../../src/engine/images/handlers.ts';
import { importImage } from '../../../src/engine/images/import-image.ts';
import { ensureImage } from '../../../src/engine/images/ensure-image.ts';
import { originalImage } from '../../../src/engine/images/export/original-image.ts';
import { pruneImages } from '../../../src/engine/images/prune-images.ts';
import { pullImage } from '../../../src/engine/images/pull-image.ts';
import { digestOf } from '../../../src/engine/images/registry/resolve-image.ts';
import { renameImage, tagImage } from '../../../src/engine/images/tag-image.ts';
import { getImage, listImages } from '../../../src/state/images.ts';
import { imagePaths } from '../../../src/state/layout.ts';
import { concatenate, imageContext, recordedOperation } from '../../support/image-context.ts';
import { putImage, startRegistry } from '../../support/registry.ts';
import { file, tarOf } from '../../support/tar-builder.ts';

const { signal } = new AbortController();

test('an image that was imported is one of its registry once it is pulled', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  const { digest, id, layerDigests } = putImage(registry, 'app');
  const config = registry.blobs.get(`sha256:${id}`)!;
  const archive = tarOf([
    file('manifest.json', JSON.stringify([{ Config: 'config.json', Layers: ['a.tar', 'b.tar'] }])),
    file('config.json', config),
    file('a.tar', 'layer one'),
    file('b.tar', 'layer two'),
  ]);
  const path = join(context.directory, 'app.tar');
  writeFileSync(path, archive);
  const imported = await importImage(context, { path, name: 'mine' }, recordedOperation());
  expect(imported).toMatchObject({ id, source: 'import', digests: {} });

  const reference = `${registry.host}/app`;
  const pulled = await pullImage(context, reference, recordedOperation());
  expect(pulled).toMatchObject({
    id,
    source: 'pull',
    digest,
    layers: layerDigests,
    digests: { [`${reference}:latest`]: digest },
  });
  expect(findImage(context.db, `${reference}@${digest}`)?.id).toBe(id);
  expect(findImage(context.db, `mine@${digest}`)).toBeUndefined();
  // So that it comes again when somebody has removed its files.
  rmSync(imagePaths(context.layout, id).rootfs);
  expect((await ensureImage(context, reference, recordedOperation())).id).toBe(id);
});

test('tags of one image that were pulled with different manifests keep each its own', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  const { id, manifest, digest } = putImage(registry, 'app');
  const other = registry.putManifest('app', 'other', { ...manifest, annotations: { made: 'elsewhere' } });
  const reference = `${registry.host}/app`;
  await pullImage(context, reference, recordedOperation());
  const image = await pullImage(context, `${reference}:other`, recordedOperation());
  expect(image.digests).toEqual({ [`${reference}:latest`]: digest, [`${reference}:other`]: other });
  for (const [tag, wanted] of [
    ['latest', digest],
    ['other', other],
  ] as const) {
    const name = `${reference}:${tag}`;
    expect(findImage(context.db, `${reference}@${wanted}`)?.id).toBe(id);
    expect((await showImageRoute(context, { reference: name })).digest).toBe(wanted);
    const exported = await originalImage(context.layout, image, { isOci: false, name });
    expect(exported && digestOf(exported.manifest)).toBe(wanted);
  }

  // The tag moves to a manifest with the same content.
  const moved = registry.putManifest('app', 'latest', { ...manifest, annotations: { made: 'anew' } });
  await pullImage(context, reference, recordedOperation());
  expect((await showImageRoute(context, { reference })).digest).toBe(moved);
  expect(findImage(context.db, `${reference}@${digest}`)).toBeUndefined();
});

/** What an image leaves with by a name, which is what `image show` says of it. */
async function exportedDigest(context: ReturnType<typeof imageContext>, name: string): Promise<string> {
  const { id, digest } = await showImageRoute(context, { reference: name });
  const exported = await originalImage(context.layout, getImage(context.db, id), {
    isOci: false,
    name: namePulled(getImage(context.db, id), name),
  });
  expect(exported && digestOf(exported.manifest)).toBe(digest);
  return digest!;
}

interface TwoTags extends AsyncDisposable {
  readonly context: ReturnType<typeof imageContext>;
  readonly reference: string;
  readonly id: string;
  /** By tag */
  readonly digests: Readonly<Record<'one' | 'two', string>>;
}

/** One image under two tags with a manifest each, and a registry that has both. */
async function twoTags(tools: Parameters<typeof imageContext>[0] = {}): Promise<TwoTags> {
  const registry = await startRegistry();
  const context = imageContext(tools);
  const { id, manifest, digest: one } = putImage(registry, 'app', { tag: 'one' });
  const two = registry.putManifest('app', 'two', { ...manifest, annotations: { made: 'elsewhere' } });
  return {
    context,
    reference: `${registry.host}/app`,
    id,
    digests: { one, two },
    async [Symbol.asyncDispose]() {
      context[Symbol.dispose]();
      await registry[Symbol.asyncDispose]();
    },
  };
}

test('a tag more, or another name, in a repository has the digest of the name that was meant', async () => {
  await using lab = await twoTags();
  const { context, reference, digests } = lab;
  for (const tag of ['one', 'two']) await pullImage(context, `${reference}:${tag}`, recordedOperation());
  const tag = (from: string, to: string): Promise<unknown> =>
    tagImage(context, { reference: `${reference}${from}`, name: `${reference}:${to}` }, signal);
  await tag(':two', 'tagged');
  await tag(`@${digests.two}`, 'by-digest');
  await renameImage(context, { reference: `${reference}:two`, name: `${reference}:renamed` }, signal);
  for (const name of [':tagged', ':by-digest', ':renamed', `@${digests.two}`])
    expect(await exportedDigest(context, `${reference}${name}`)).toBe(digests.two);
  expect(await exportedDigest(context, `${reference}:one`)).toBe(digests.one);
});

test.each(['one', 'two'] as const)(
  'an image whose files are lost leaves by each name as that was pulled, once "%s" is pulled again',
  async (again) => {
    await using lab = await twoTags();
    const { context, reference, id, digests } = lab;
    for (const tag of ['one', 'two']) await pullImage(context, `${reference}:${tag}`, recordedOperation());
    rmSync(imagePaths(context.layout, id).rootfs);
    await pullImage(context, `${reference}:${again}`, recordedOperation());
    for (const tag of ['one', 'two'] as const)
      expect(await exportedDigest(context, `${reference}:${tag}`)).toBe(digests[tag]);
  },
);

test('of two tags of a new image that are pulled at once, each leaves as it was pulled', async () => {
  const bothConvert = Promise.withResolvers<void>();
  let converting = 0;
  await using lab = await twoTags({
    tools: {
      convert: async (options) => {
        if (++converting === 2) bothConvert.resolve();
        await bothConvert.promise;
        return concatenate(options);
      },
    },
  });
  const { context, reference, digests } = lab;
  const pull = (tag: string): Promise<unknown> =>
    pullImage(context, `${reference}:${tag}`, recordedOperation());
  await Promise.all([pull('one'), pull('two')]);
  for (const tag of ['one', 'two'] as const)
    expect(await exportedDigest(context, `${reference}:${tag}`)).toBe(digests[tag]);
});

test('without the manifest that a name was pulled with, its image does not leave with that of another', async () => {
  await using lab = await twoTags();
  const { context, reference, id, digests } = lab;
  for (const tag of ['one', 'two']) await pullImage(context, `${reference}:${tag}`, recordedOperation());
  rmSync(imagePaths(context.layout, id).manifestOf(digests.two));
  const image = getImage(context.db, id);
  const exported = (tag: string): Promise<unknown> =>
    originalImage(context.layout, image, { isOci: false, name: `${reference}:${tag}` });
  expect(await exported('two')).toBeUndefined();
  expect(await exported('one')).toBeDefined();
});

test('a tag more in the repository of a pulled name keeps its digest, one elsewhere has none', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  const { digest, id } = putImage(registry, 'app');
  const reference = `${registry.host}/app`;
  await pullImage(context, reference, recordedOperation());
  await tagImage(context, { reference, name: `${reference}:kept` }, signal);
  await renameImage(context, { reference: `${reference}:latest`, name: 'mine' }, signal);
  const [image] = listImages(context.db);
  expect(image?.digests).toEqual({ [`${reference}:kept`]: digest });
  expect(findImage(context.db, `${reference}@${digest}`)?.id).toBe(id);
});

test('of two images that are published under one name at once, one has it, and the other goes with prune', async () => {
  const bothConvert = Promise.withResolvers<void>();
  let converting = 0;
  using context = imageContext({
    tools: {
      convert: async (options) => {
        if (++converting === 2) bothConvert.resolve();
        await bothConvert.promise;
        return concatenate(options);
      },
    },
  });
  const made = await Promise.all(
    ['one', 'two'].map((content) => {
      const path = join(context.directory, content);
      writeFileSync(path, tarOf([file('etc/hostname', content)]));
      return importImage(context, { path, name: 'app' }, recordedOperation());
    }),
  );
  expect(new Set(made.map(({ id }) => id)).size).toBe(2);
  const named = listImages(context.db).filter(({ names }) => names.length > 0);
  expect(named.map(({ names }) => names)).toEqual([['docker.io/library/app:latest']]);
  const pruned = await pruneImages(context, { all: false, dryRun: false }, recordedOperation());
  expect(pruned.removed.map(({ id }) => id)).toEqual(
    made.map(({ id }) => id).filter((id) => id !== named[0]?.id),
  );
  expect(findImage(context.db, 'app')?.id).toBe(named[0]?.id);
});
