import { existsSync, readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { ConversionLimits } from '../../../src/engine/images/layers/conversion-limits.ts';
import { convertLayers } from '../../../src/engine/images/layers/layers.ts';
import { pullImage } from '../../../src/engine/images/pull-image.ts';
import { layerName } from '../../../src/engine/images/registry/layer-progress.ts';
import { BangerError } from '../../../src/errors.ts';
import { listImages } from '../../../src/state/images.ts';
import { hostileLayers } from '../../support/hostile-layers/all.ts';
import { imageContext, recordedOperation } from '../../support/image-context.ts';
import {
  answer,
  mediaTypes,
  putImage,
  sha256,
  startRegistry,
  type FakeRegistry,
} from '../../support/registry.ts';
import { tarOf } from '../../support/tar-builder.ts';

/** Pulls `app` with the real conversion. Whatever comes of it, no half of it is left. */
async function pull(registry: FakeRegistry, limits: Partial<ConversionLimits> = {}): Promise<unknown> {
  using context = imageContext({
    tools: { convert: (options) => convertLayers({ ...options, limits }) },
  });
  const outside = '/tmp/banger-escaped';
  try {
    await pullImage(context, `${registry.host}/app`, recordedOperation());
    expect(listImages(context.db)).toHaveLength(1);
    return undefined;
  } catch (error) {
    expect(listImages(context.db)).toEqual([]);
    expect(namesIn(context.layout.imagesDirectory).filter((name) => name !== '.staging')).toEqual([]);
    return error;
  } finally {
    const { imageStagingDirectory, blobsDirectory } = context.layout;
    expect(namesIn(imageStagingDirectory)).toEqual([]);
    // What was downloaded has the hash that was promised; nothing else is in the cache.
    expect(namesIn(blobsDirectory).filter((name) => !registry.blobs.has(`sha256:${name}`))).toEqual([]);
    expect(existsSync(outside)).toBe(false);
  }
}

const namesIn = (directory: string): string[] => (existsSync(directory) ? readdirSync(directory) : []);

const quick = hostileLayers.filter((layer) => !layer.isSlow);

test.each(quick.filter((layer) => layer.error))('a pulled layer with $title is refused', async (layer) => {
  await using registry = await startRegistry();
  const layers = [tarOf(layer.below ?? []), layer.bytes()];
  const { layerDigests } = putImage(registry, 'app', { layers });
  const error = await pull(registry, layer.limits);
  expect(error).toBeInstanceOf(BangerError);
  expect(error).toMatchObject({
    code: 'command_failed',
    message: expect.stringMatching(layer.error!),
    hint: expect.stringContaining('The image is at fault'),
  });
  const { message } = error as BangerError;
  expect(message).toContain(`Image "${registry.host}/app:latest" is refused`);
  expect(message).toContain(`layer "${layerName(layerDigests[1]!)}"`);
  if (layer.entry !== undefined) expect(message).toContain(layer.entry);
});

test.each(quick.filter((layer) => !layer.error))('a pulled layer with $title does no harm', async (layer) => {
  await using registry = await startRegistry();
  putImage(registry, 'app', { layers: [tarOf(layer.below ?? []), layer.bytes()] });
  expect(await pull(registry)).toBeUndefined();
});

test('a layer with another content than its config says is refused', async () => {
  await using registry = await startRegistry();
  const { manifest } = putImage(registry, 'app', { layers: [tarOf([])] });
  const config = JSON.parse(registry.blobs.get(manifest.config.digest)!.toString()) as { rootfs: object };
  const lying = JSON.stringify({
    ...config,
    rootfs: { type: 'layers', diff_ids: [`sha256:${'0'.repeat(64)}`] },
  });
  const digest = registry.putBlob(lying);
  registry.putManifest('app', 'latest', {
    ...manifest,
    config: { ...manifest.config, digest, size: lying.length },
  });
  expect(await pull(registry)).toMatchObject({ message: expect.stringContaining('diff id') });
});

test('a config with more variables than any program can have is refused', async () => {
  await using registry = await startRegistry();
  putImage(registry, 'app', { env: Array.from({ length: 10_001 }, (_, index) => `V${index}=x`) });
  expect(await pull(registry)).toMatchObject({
    message: expect.stringContaining('"config.Env" are more than 10000'),
  });
});

test('a config that is not JSON, or not of its size, is refused', async () => {
  await using registry = await startRegistry();
  const { manifest } = putImage(registry, 'app', { layers: [tarOf([])] });
  const put = (digest: string, size: number): unknown =>
    registry.putManifest('app', 'latest', { ...manifest, config: { ...manifest.config, digest, size } });
  put(registry.putBlob('<html>'), 6);
  expect(await pull(registry)).toMatchObject({ message: expect.stringContaining('config is not JSON') });
  put(manifest.config.digest, 3);
  expect(await pull(registry)).toMatchObject({ message: expect.stringContaining('another hash or size') });
});

test('the same layer twice, and an inline copy of it, are used as the registry has it', async () => {
  await using registry = await startRegistry();
  const layer = tarOf([{ path: 'a', type: '0', data: 'content' }]);
  const { manifest } = putImage(registry, 'app', { layers: [layer, layer] });
  const data = Buffer.from('something else').toString('base64');
  registry.putManifest('app', 'latest', {
    ...manifest,
    layers: manifest.layers.map((one) => ({ ...one, data })),
  });
  expect(await pull(registry)).toBeUndefined();
  expect(registry.requests.filter(({ path }) => path.endsWith(manifest.layers[0]!.digest))).toHaveLength(1);
});

test('ten thousand layers, none, and an index of only attestations, are refused', async () => {
  await using registry = await startRegistry();
  const { manifest } = putImage(registry, 'app', { layers: [tarOf([])] });
  registry.putManifest('app', 'latest', { ...manifest, layers: Array(10_000).fill(manifest.layers[0]) });
  expect(await pull(registry)).toMatchObject({
    message: expect.stringContaining('"layers" are more than 500'),
  });
  registry.putManifest('app', 'latest', { ...manifest, layers: [] });
  expect(await pull(registry)).toMatchObject({ message: expect.stringContaining('"layers" are none') });
  const entry = {
    ...manifest.config,
    mediaType: mediaTypes.manifest,
    platform: { os: 'unknown', architecture: 'unknown' },
  };
  const index = { schemaVersion: 2, mediaType: mediaTypes.index, manifests: [entry] };
  registry.putManifest('app', 'latest', index, mediaTypes.index);
  expect(await pull(registry)).toMatchObject({ code: 'not_found' });
});

test('a manifest of 100 MB is not read to its end', async () => {
  await using registry = await startRegistry();
  let sent = 0;
  registry.misbehave(({ path }, response) => {
    if (!path.includes('manifests')) return false;
    const chunk = Buffer.alloc(64 * 1024, ' ');
    const write = (): void => {
      while (sent < 100 * 1024 ** 2) {
        sent += chunk.length;
        if (!response.write(chunk)) return void response.once('drain', write);
      }
      response.end();
    };
    write();
    return true;
  });
  expect(await pull(registry)).toMatchObject({ message: expect.stringContaining('larger than 4 MiB') });
  expect(sent).toBeLessThan(20 * 1024 ** 2);
});

test('huge headers are refused by name', async () => {
  await using registry = await startRegistry();
  registry.misbehave(answer(/manifests/, 200, { 'x-huge': 'x'.repeat(100_000) }, '{}'));
  expect(await pull(registry)).toMatchObject({
    message: expect.stringContaining('headers of more than 16 KiB'),
  });
});

test('a layer without a length, in small chunks, is read to its end and checked', async () => {
  await using registry = await startRegistry();
  const layer = tarOf([{ path: 'a', type: '0', data: 'content' }]);
  const { layerDigests } = putImage(registry, 'app', { layers: [layer] });
  registry.misbehave(({ path }, response) => {
    if (!path.endsWith(layerDigests[0]!)) return false;
    for (let at = 0; at < layer.length; at += 100) response.write(layer.subarray(at, at + 100));
    response.end();
    return true;
  });
  expect(await pull(registry)).toBeUndefined();
});

test.each([
  ['a million layers', JSON.stringify({ os: 'linux', rootfs: { diff_ids: Array(1_000_000).fill('a') } })],
  ['a million keys', `{${numberedKeys(300_000)}}`],
  ['brackets in brackets', `{"config":${'['.repeat(1_000_000)}${']'.repeat(1_000_000)}}`],
])('a config with %s is refused before time is spent on it', async (_, config) => {
  await using registry = await startRegistry();
  const bytes = Buffer.from(config);
  const { manifest } = putImage(registry, 'app', { layers: [tarOf([])] });
  const digest = sha256(config);
  registry.blobs.set(digest, bytes);
  registry.putManifest('app', 'latest', {
    ...manifest,
    config: { ...manifest.config, digest, size: bytes.length },
  });
  expect(await pull(registry)).toMatchObject({
    code: 'command_failed',
    message: expect.stringContaining('its config has more than 100000 values') as string,
  });
});

function numberedKeys(count: number): string {
  return Array.from({ length: count }, (_, index) => `"k${index}":1`).join();
}
