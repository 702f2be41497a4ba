import { expect, test } from 'vitest';
import { pullFrom } from '../../../support/pull-from.ts';
import {
  answer,
  mediaTypes,
  putImage,
  startRegistry,
  times,
  type FakeRegistry,
} from '../../../support/registry.ts';

test.each([
  ['file:///etc/passwd', 'file:'],
  ['http://169.254.169.254/latest/meta-data/', '169.254.169.254'],
  ['https://[fe80::1]/', 'fe80::1'],
  ['https://[::ffff:169.254.169.254]/', 'local link'],
  ['https://user:secret@registry.example/', 'a password in it'],
])('a redirect to %s is refused', async (location, why) => {
  await using registry = await startRegistry();
  const { layerDigests } = putImage(registry, 'app');
  registry.misbehave(answer(new RegExp(layerDigests[0]!), 307, { location }));
  const error: unknown = await pullFrom(registry).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ message: expect.stringContaining(why) });
  expect(String(error)).not.toContain('secret');
});

test('redirects in circles end', async () => {
  await using registry = await startRegistry();
  putImage(registry, 'app');
  registry.misbehave(answer(/manifests/, 302, { location: '/v2/app/manifests/latest' }));
  await expect(pullFrom(registry)).rejects.toThrow('redirects in circles');
});

test.each([503, 429, 500])('status %i is tried again', async (status) => {
  await using registry = await startRegistry();
  putImage(registry, 'app');
  registry.misbehave(times(2, answer(/manifests/, status, { 'retry-after': '0' })));
  await pullFrom(registry);
  expect(registry.requests.filter(({ path }) => path.endsWith('manifests/latest'))).toHaveLength(3);
});

test('a registry that stays broken, or asks for a long wait, is given up', async () => {
  await using registry = await startRegistry();
  putImage(registry, 'app');
  registry.misbehave(answer(/manifests/, 503));
  await expect(pullFrom(registry)).rejects.toThrow(`Registry "${registry.host}" is broken`);
  expect(registry.requests.filter(({ path }) => path.endsWith('manifests/latest'))).toHaveLength(4);
  registry.requests.length = 0;
  registry.misbehave(answer(/manifests/, 429, { 'retry-after': '3600' }));
  await expect(pullFrom(registry)).rejects.toThrow('takes no more requests');
  expect(registry.requests.filter(({ path }) => path.endsWith('manifests/latest'))).toHaveLength(1);
});

test('a connection that is cut is tried again', async () => {
  await using registry = await startRegistry();
  putImage(registry, 'app');
  registry.misbehave(
    times(2, ({ path }, response) => {
      if (!path.includes('manifests')) return false;
      response.destroy();
      return true;
    }),
  );
  await pullFrom(registry);
});

test('what is not there is "not_found" with the name as written', async () => {
  await using registry = await startRegistry();
  await expect(pullFrom(registry, { name: 'nope:1' })).rejects.toMatchObject({
    code: 'not_found',
    message: `There is no image "${registry.host}/nope:1" at registry "${registry.host}"`,
  });
});

test('a registry that is down is named', async () => {
  const registry = await startRegistry();
  await registry[Symbol.asyncDispose]();
  await expect(pullFrom(registry)).rejects.toThrow(`Registry "${registry.host}" refuses connections`);
});

test('a mirror is asked first, and one that does not help is named in the log', async () => {
  await using registry = await startRegistry();
  await using mirror = await startRegistry();
  putImage(registry, 'app');
  const config = `[registries."${registry.host}"]\nmirrors = ["http://${mirror.host}"]`;
  const without = await pullFrom(registry, { config });
  expect(without.logged).toEqual(['mirror did not help']);
  putImage(mirror, 'app');
  registry.requests.length = 0;
  const image = await pullFrom(registry, { config });
  expect(image.names).toEqual([`${registry.host}/app:latest`]);
  expect(registry.requests).toEqual([]);
});

test('a mirror with wrong content is given up for the registry', async () => {
  await using registry = await startRegistry();
  await using mirror = await startRegistry();
  putImage(registry, 'app');
  const { layerDigests } = putImage(mirror, 'app');
  mirror.blobs.set(layerDigests[0]!, Buffer.from('layer 0ne'));
  const config = `[registries."${registry.host}"]\nmirrors = ["http://${mirror.host}"]`;
  const image = await pullFrom(registry, { config });
  expect(image.layers).toEqual(layerDigests);
  expect(image.logged).toEqual(['mirror given up']);
});

test.each<[string, string, (registry: FakeRegistry) => unknown]>([
  [
    'that is an index as well',
    'an index as well',
    (registry) => ({ ...manifestIn(registry), manifests: [] }),
  ],
  ['of schema 1', 'schema 1', () => ({ schemaVersion: 1, fsLayers: [] })],
  ['that is not JSON', 'not JSON', () => Buffer.from('<html>')],
  ['that is a JSON list', 'not JSON', () => []],
  ['of 5 MiB', 'larger than 4 MiB', () => ({ padding: 'x'.repeat(5 * 1024 * 1024) })],
  ['with 501 layers', 'layers', (registry) => withLayers(registry, (layer) => Array(501).fill(layer))],
  ['without layers', 'layers', (registry) => withLayers(registry, () => [])],
  [
    'with a foreign layer',
    'not distributed',
    (registry) =>
      withLayers(registry, (layer) => [
        { ...layer, mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip' },
      ]),
  ],
  [
    'with a layer of unknown type',
    'not part of a container image',
    (registry) => withLayers(registry, (layer) => [{ ...layer, mediaType: 'text/html' }]),
  ],
  [
    'with a sha512 layer',
    'not a SHA-256 digest',
    (registry) => withLayers(registry, (layer) => [{ ...layer, digest: `sha512:${'a'.repeat(128)}` }]),
  ],
  [
    'with a path for a digest',
    'not a SHA-256 digest',
    (registry) => withLayers(registry, (layer) => [{ ...layer, digest: 'sha256:../../../../etc/passwd' }]),
  ],
  [
    'with a negative size',
    'layers.0.size',
    (registry) => withLayers(registry, (layer) => [{ ...layer, size: -1 }]),
  ],
  [
    'with fewer layers than its config',
    'config names 2 layers',
    (registry) => withLayers(registry, (layer) => [layer]),
  ],
  [
    'of another artefact',
    'not part of a container image',
    (registry) => {
      const manifest = manifestIn(registry);
      return {
        ...manifest,
        config: { ...manifest.config, mediaType: 'application/vnd.cncf.helm.config.v1+json' },
      };
    },
  ],
])('a manifest %s is refused', async (_, why, make) => {
  await using registry = await startRegistry();
  registry.putManifest('app', 'latest', make(registry));
  await expect(pullFrom(registry)).rejects.toThrow(why);
});

test('a manifest with another digest than asked for or promised is refused', async () => {
  await using registry = await startRegistry();
  const { digest } = putImage(registry, 'app');
  registry.manifests.set(`app@${digest}`, { bytes: Buffer.from('{}'), mediaType: mediaTypes.manifest });
  await expect(pullFrom(registry, { name: `app@${digest}` })).rejects.toThrow('should have digest');
  registry.misbehave(answer(/manifests/, 200, { 'docker-content-digest': digest }, '{}'));
  await expect(pullFrom(registry)).rejects.toThrow('should have digest');
});

test('of an index, the manifest for this machine is taken, and attestations are not looked at', async () => {
  await using registry = await startRegistry();
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
  const { id, digest, manifest } = putImage(registry, 'app', { tag: 'real' });
  const size = Buffer.byteLength(JSON.stringify(manifest));
  const entry = (platform: object, more: object = {}) => ({
    mediaType: mediaTypes.manifest,
    digest,
    size,
    platform,
    ...more,
  });
  const other = { digest: `sha256:${'0'.repeat(64)}` };
  const index = (manifests: readonly object[]) => ({
    schemaVersion: 2,
    mediaType: mediaTypes.index,
    manifests,
  });
  registry.putManifest(
    'app',
    'latest',
    index([
      entry({ os: 'linux', architecture: 's390x' }, other),
      entry({ os: 'linux', architecture, variant: 'v9' }, other),
      entry({ os: 'linux', architecture }),
      entry({ os: 'unknown', architecture: 'unknown' }, other),
    ]),
    mediaTypes.index,
  );
  expect((await pullFrom(registry)).id).toBe(id);

  registry.putManifest(
    'app',
    'latest',
    index([entry({ os: 'linux', architecture: 's390x' })]),
    mediaTypes.index,
  );
  await expect(pullFrom(registry)).rejects.toMatchObject({
    code: 'not_found',
    message: expect.stringMatching(/not made for linux\/\w+; there is linux\/s390x$/),
  });
});

test('an image whose config is for another machine is refused', async () => {
  await using registry = await startRegistry();
  putImage(registry, 'app', { architecture: 's390x' });
  await expect(pullFrom(registry)).rejects.toThrow('there is linux/s390x');
});

function manifestIn(registry: FakeRegistry) {
  return putImage(registry, 'app').manifest;
}

function withLayers(
  registry: FakeRegistry,
  change: (layer: { mediaType: string; digest: string; size: number }) => unknown[],
): object {
  const manifest = manifestIn(registry);
  return { ...manifest, layers: change(manifest.layers[0]!) };
}
