import { existsSync, statSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { pullImage } from '../../../src/engine/images/pull-image.ts';
import { partialBlobPath } from '../../../src/engine/images/registry/blob-files.ts';
import { findImageByName, listImages } from '../../../src/state/images.ts';
import { imagePaths } from '../../../src/state/layout.ts';
import { concatenate, imageContext, recordedOperation } from '../../support/image-context.ts';
import { answer, putImage, sha256, startRegistry, times } from '../../support/registry.ts';

test('a pulled image has its files, its row and its name, and staging is empty', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  const { id, digest, layerDigests } = putImage(registry, 'team/app', { env: ['A=1'] });
  const operation = recordedOperation();

  const image = await pullImage(context, `${registry.host}/team/app`, operation);

  expect(image).toMatchObject({ id, digest, source: 'pull', names: [`${registry.host}/team/app:latest`] });
  expect(image.layers).toEqual(layerDigests);
  expect(image.config).toMatchObject({ env: ['A=1'], command: ['/bin/sh'] });
  expect(await readFile(imagePaths(context.layout, id).rootfs, 'utf8')).toBe('layer onelayer two');
  expect(await readdir(context.layout.imageStagingDirectory)).toEqual([]);
  expect(operation.stages).toEqual([
    'Resolving image',
    'Downloading layers',
    'Converting layers',
    'Publishing image',
  ]);
  expect(operation.progressed).toContainEqual(
    expect.objectContaining({ detail: '2 of 2 layers', done: 18, total: 18, unit: 'bytes' }),
  );
});

test('progress tells of each layer what happens to it, and a hundred of them are not told too often', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  const layers = Array.from({ length: 100 }, (_, index) => `layer ${index} `.repeat(10_000));
  const { layerDigests } = putImage(registry, 'app', { layers });
  putImage(registry, 'other', { layers: layers.slice(0, 1) });
  await pullImage(context, `${registry.host}/other`, recordedOperation());
  const operation = recordedOperation();
  await pullImage(context, `${registry.host}/app`, operation);

  const statesOf = (index: number): unknown[] => {
    const name = layerDigests[index]!.slice(7, 19);
    const states = operation.progressed.map(({ parts }) => parts?.find((part) => part.name === name)?.state);
    return [...new Set(states)].filter(Boolean);
  };
  expect(statesOf(0)).toEqual(expect.arrayContaining(['verifying', 'cached']));
  expect(statesOf(0)).not.toContain('downloading');
  expect(statesOf(50)).toEqual(['waiting', 'downloading', 'downloaded']);
  // A few changes of state for each layer, and ten reports of bytes a second.
  expect(operation.progressed.length).toBeLessThan(100 * 5 + 100);
});

test('pulling what is there already fetches no layers', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  putImage(registry, 'app');
  putImage(registry, 'app', { tag: 'again' });
  await pullImage(context, `${registry.host}/app`, recordedOperation());
  registry.requests.length = 0;
  const image = await pullImage(context, `${registry.host}/app:again`, recordedOperation());
  expect(image.names).toEqual([`${registry.host}/app:again`, `${registry.host}/app:latest`]);
  expect(registry.requests.map(({ path }) => path)).not.toContainEqual(
    expect.stringContaining(image.layers[0]!),
  );
});

test('a tag that moved takes its name along', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  putImage(registry, 'app');
  const old = await pullImage(context, `${registry.host}/app`, recordedOperation());
  putImage(registry, 'app', { layers: ['another'] });
  const fresh = await pullImage(context, `${registry.host}/app`, recordedOperation());
  expect(fresh.id).not.toBe(old.id);
  expect(findImageByName(context.db, `${registry.host}/app:latest`)?.id).toBe(fresh.id);
  expect(listImages(context.db)).toHaveLength(2);
});

test('a pull by digest takes exactly that image', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  const { digest, id } = putImage(registry, 'app');
  putImage(registry, 'app', { layers: ['another'] });
  const image = await pullImage(context, `${registry.host}/app:ignored@${digest}`, recordedOperation());
  expect(image.id).toBe(id);
  expect(image.names).toEqual([`${registry.host}/app@${digest}`]);
});

test('a layer with another content than promised leaves nothing behind', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  const { layerDigests } = putImage(registry, 'app');
  registry.blobs.set(layerDigests[1]!, Buffer.from('layer 2wo'));
  await expect(pullImage(context, `${registry.host}/app`, recordedOperation())).rejects.toThrow(
    /^Blob sha256:\w+ arrived with digest/,
  );
  expect(listImages(context.db)).toEqual([]);
  expect(await readdir(context.layout.imageStagingDirectory)).toEqual([]);
  expect(existsSync(join(context.layout.blobsDirectory, layerDigests[1]!.slice(7)))).toBe(false);
});

test.each([
  ['shorter', 'layer', 'ended after 5 of 9 bytes'],
  ['longer', 'layer two and more', 'is larger than the 9 bytes'],
])('a layer that is %s than promised is refused', async (_, content, message) => {
  await using registry = await startRegistry();
  using context = imageContext();
  const { layerDigests } = putImage(registry, 'app');
  registry.blobs.set(layerDigests[1]!, Buffer.from(content));
  await expect(pullImage(context, `${registry.host}/app`, recordedOperation())).rejects.toThrow(message);
});

test('a connection that breaks in the middle is taken up there', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  const layer = 'x'.repeat(100_000) + 'y'.repeat(100_000);
  const { layerDigests } = putImage(registry, 'app', { layers: [layer] });
  registry.misbehave(
    times(1, ({ path }, response) => {
      if (!path.includes(layerDigests[0]!)) return false;
      response.writeHead(200, { 'content-length': layer.length });
      response.write(layer.slice(0, 100_000), () => response.destroy());
      return true;
    }),
  );
  const { id } = await pullImage(context, `${registry.host}/app`, recordedOperation());
  expect(await readFile(imagePaths(context.layout, id).rootfs, 'utf8')).toBe(layer);
  const ranges = registry.requests.map(({ headers }) => headers.range).filter(Boolean);
  expect(ranges).toHaveLength(1);
  expect(ranges[0]).toMatch(/^bytes=[1-9]\d*-$/);
});

test.each([
  ['goes on where it was', false],
  ['begins again when the registry ignores ranges', true],
])('a download cut off by the end of an engine %s', async (_, ignoresRanges) => {
  await using registry = await startRegistry();
  using context = imageContext();
  const { layerDigests } = putImage(registry, 'app', { layers: ['0123456789'] });
  await mkdir(context.layout.blobsDirectory, { recursive: true });
  await writeFile(join(context.layout.blobsDirectory, `${layerDigests[0]!.slice(7)}.partial`), '01234');
  if (ignoresRanges) registry.misbehave(answer(new RegExp(layerDigests[0]!), 200, {}, '0123456789'));
  const { id } = await pullImage(context, `${registry.host}/app`, recordedOperation());
  expect(await readFile(imagePaths(context.layout, id).rootfs, 'utf8')).toBe('0123456789');
  expect(registry.requests.at(-1)?.headers.range).toBe('bytes=5-');
});

test('a partial download whose content is wrong is begun again, and a damaged cached blob fetched again', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  const { layerDigests } = putImage(registry, 'app', { layers: ['0123456789', 'abc'] });
  await mkdir(context.layout.blobsDirectory, { recursive: true });
  const blob = (index: number): string => join(context.layout.blobsDirectory, layerDigests[index]!.slice(7));
  await writeFile(`${blob(0)}.partial`, 'wrong');
  await writeFile(blob(1), 'abX');
  const { id } = await pullImage(context, `${registry.host}/app`, recordedOperation());
  expect(await readFile(imagePaths(context.layout, id).rootfs, 'utf8')).toBe('0123456789abc');
  expect(await readFile(blob(1), 'utf8')).toBe('abc');
});

test('two pulls of one reference are one, and both see its progress', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  putImage(registry, 'app');
  const operations = [recordedOperation(), recordedOperation()] as const;
  const [one, two] = await Promise.all(
    operations.map((operation) => pullImage(context, `${registry.host}/app`, operation)),
  );
  expect(one).toEqual(two);
  expect(operations[1].stages).toContain('Publishing image');
  expect(registry.requests.filter(({ path }) => path.endsWith('/manifests/latest'))).toHaveLength(1);
});

test('pulls of different images overlap, and a layer they share is fetched once', async () => {
  await using registry = await startRegistry();
  const bothConvert = Promise.withResolvers<void>();
  let converting = 0;
  using context = imageContext({
    tools: {
      convert: async (options) => {
        // Neither could finish if one had to wait for the other.
        if (++converting === 2) bothConvert.resolve();
        await bothConvert.promise;
        return concatenate(options);
      },
    },
  });
  putImage(registry, 'one', { layers: ['shared', 'one'] });
  putImage(registry, 'two', { layers: ['shared', 'two'] });
  const images = await Promise.all(
    ['one', 'two'].map((name) => pullImage(context, `${registry.host}/${name}`, recordedOperation())),
  );
  expect(new Set(images.map((image) => image.id)).size).toBe(2);
  const shared = registry.requests.filter(({ path }) => path.endsWith(sha256('shared')));
  expect(shared).toHaveLength(1);
});

test('layers of one image are downloaded at the same time', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  const contents = ['one', 'two', 'three'];
  putImage(registry, 'app', { layers: contents });
  const held = new Map<string, () => void>();
  registry.misbehave(({ path }, response) => {
    const content = contents.find((each) => path.endsWith(sha256(each)));
    if (content === undefined) return false;
    // None is answered before all have been asked for.
    held.set(content, () => void response.end(content));
    if (held.size === contents.length) for (const answerNow of held.values()) answerNow();
    return true;
  });
  await pullImage(context, `${registry.host}/app`, recordedOperation());
  expect([...held.keys()].toSorted()).toEqual(contents.toSorted());
});

test('two names of one image racing to be published leave one image with both names', async () => {
  await using registry = await startRegistry();
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
  putImage(registry, 'one');
  putImage(registry, 'two');
  await Promise.all(
    ['one', 'two'].map((name) => pullImage(context, `${registry.host}/${name}`, recordedOperation())),
  );
  const images = listImages(context.db);
  expect(images).toHaveLength(1);
  expect(images[0]?.names).toEqual([`${registry.host}/one:latest`, `${registry.host}/two:latest`]);
  expect(existsSync(imagePaths(context.layout, images[0]!.id).rootfs)).toBe(true);
  expect(await readdir(context.layout.imageStagingDirectory)).toEqual([]);
});

test('cancelling one of two who wait leaves the other its image', async () => {
  await using registry = await startRegistry();
  const canConvert = Promise.withResolvers<void>();
  const converts = Promise.withResolvers<void>();
  using context = imageContext({
    tools: {
      convert: async (options) => {
        converts.resolve();
        await canConvert.promise;
        return concatenate(options);
      },
    },
  });
  putImage(registry, 'app');
  const first = recordedOperation();
  const cancelled = pullImage(context, `${registry.host}/app`, first);
  const other = pullImage(context, `${registry.host}/app`, recordedOperation());
  await converts.promise;
  first.cancel();
  await expect(cancelled).rejects.toMatchObject({ code: 'cancelled' });
  canConvert.resolve();
  expect((await other).names).toEqual([`${registry.host}/app:latest`]);
});

test('a cancelled pull stops the download and cleans up before it returns', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  const { layerDigests } = putImage(registry, 'app');
  const operation = recordedOperation();
  registry.misbehave(({ path }, response) => {
    if (!path.endsWith(layerDigests[0]!)) return false;
    response.write('la');
    return true;
  });
  const partial = partialBlobPath(context.layout.blobsDirectory, layerDigests[0]!);
  const pulling = pullImage(context, `${registry.host}/app`, operation);
  await expect.poll(() => statSync(partial, { throwIfNoEntry: false })?.size).toBe(2);
  operation.cancel();
  await expect(pulling).rejects.toMatchObject({
    code: 'cancelled',
    message: 'Cancelled',
    hint: 'What has arrived is kept for the next pull. Remove it with: banger image prune',
  });
  expect(await readdir(context.layout.imageStagingDirectory)).toEqual([]);
});

test('when the conversion fails, its error is reported and nothing stays', async () => {
  await using registry = await startRegistry();
  using context = imageContext({ tools: { convert: () => Promise.reject(new Error('bad layer')) } });
  putImage(registry, 'app');
  await expect(pullImage(context, `${registry.host}/app`, recordedOperation())).rejects.toThrow('bad layer');
  expect(await readdir(context.layout.imageStagingDirectory)).toEqual([]);
});
