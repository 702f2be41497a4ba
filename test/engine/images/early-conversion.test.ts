import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import type { ConvertLayers } from '../../../src/engine/images/image-services.ts';
import { convertLayers } from '../../../src/engine/images/layers/layers.ts';
import { pullImage } from '../../../src/engine/images/pull-image.ts';
import { listImages } from '../../../src/state/images.ts';
import { imagePaths } from '../../../src/state/layout.ts';
import { concatenate, imageContext, recordedOperation } from '../../support/image-context.ts';
import { putImage, startRegistry, type FakeRegistry } from '../../support/registry.ts';
import { file, tarOf } from '../../support/tar-builder.ts';

const layer = Buffer.from(randomBytes(1_500_000).toString('hex'));
const half = layer.length / 2;

/** The conversion of tests, which tells when it has the first bytes of a layer, and how often it was begun. */
function watched(convert: ConvertLayers = concatenate): {
  convert: ConvertLayers;
  hasBytes: Promise<void>;
  begun: () => number;
} {
  const { promise, resolve } = Promise.withResolvers<void>();
  let begun = 0;
  return {
    hasBytes: promise,
    begun: () => begun,
    convert: (options) => {
      begun++;
      const layers = options.layers.map((source) => ({
        ...source,
        async *open() {
          for await (const chunk of source.open()) {
            resolve();
            yield chunk;
          }
        },
      }));
      return convert({ ...options, layers });
    },
  };
}

/** Sends half of a layer, and `rest` once somebody has begun to convert it; other requests are answered as usual. */
function sendInHalves(
  registry: FakeRegistry,
  digest: string,
  first: Buffer,
  then: { readonly after: Promise<void>; readonly rest: Buffer | 'break' },
): void {
  let isFirst = true;
  registry.misbehave(async ({ path }, response) => {
    if (!path.endsWith(digest) || !isFirst) return false;
    isFirst = false;
    const total = registry.blobs.get(digest)!.length;
    response.writeHead(200, { 'content-length': total });
    response.write(first);
    await then.after;
    if (then.rest === 'break') response.destroy();
    else response.end(then.rest);
    return true;
  });
}

test('a layer is converted while it is still arriving', async () => {
  await using registry = await startRegistry();
  const { convert, hasBytes, begun } = watched();
  using context = imageContext({ tools: { convert } });
  const { layerDigests } = putImage(registry, 'app', { layers: [layer, 'on top'] });
  // What comes last is only sent when what came first is being converted.
  sendInHalves(registry, layerDigests[0]!, layer.subarray(0, half), {
    after: hasBytes,
    rest: layer.subarray(half),
  });
  const { id } = await pullImage(context, `${registry.host}/app`, recordedOperation());
  expect(await readFile(imagePaths(context.layout, id).rootfs, 'latin1')).toBe(
    `${layer.toString('latin1')}on top`,
  );
  expect(begun()).toBe(1);
});

test('a layer that makes no sense and has the wrong hash is refused for its hash', async () => {
  await using registry = await startRegistry();
  const { convert, hasBytes } = watched(convertLayers);
  using context = imageContext({ tools: { convert } });
  const { layerDigests } = putImage(registry, 'app', { layers: [layer] });
  const noise = randomBytes(half);
  sendInHalves(registry, layerDigests[0]!, noise, { after: hasBytes, rest: noise });
  await expect(pullImage(context, `${registry.host}/app`, recordedOperation())).rejects.toThrow(
    /^Blob sha256:\w+ arrived with digest/,
  );
  expect(listImages(context.db)).toEqual([]);
});

test('a layer that makes no sense and has the right hash is refused for what is wrong with it', async () => {
  await using registry = await startRegistry();
  using context = imageContext({ tools: { convert: convertLayers } });
  putImage(registry, 'app', { layers: [layer] });
  await expect(pullImage(context, `${registry.host}/app`, recordedOperation())).rejects.toThrow(
    /layer "\w+" is not a tar file, or damaged/,
  );
});

test('a download that begins again is converted again', async () => {
  await using registry = await startRegistry();
  const { convert, hasBytes, begun } = watched(convertLayers);
  using context = imageContext({ tools: { convert } });
  const content = randomBytes(1_000_000).toString('hex');
  const tar = tarOf([file('a', content)]);
  const { layerDigests } = putImage(registry, 'app', { layers: [tar] });
  const changed = tarOf([file('a', content.toUpperCase())]);
  registry.misbehave(({ path, headers }, response) => {
    // What was left is not to be had any more, only all of it.
    if (!path.endsWith(layerDigests[0]!) || headers.range === undefined) return false;
    response.writeHead(200, { 'content-length': tar.length }).end(tar);
    return true;
  });
  sendInHalves(registry, layerDigests[0]!, changed.subarray(0, 1_000_000), {
    after: hasBytes,
    rest: 'break',
  });
  await pullImage(context, `${registry.host}/app`, recordedOperation());
  expect(begun()).toBe(2);
  expect(listImages(context.db)).toHaveLength(1);
});
