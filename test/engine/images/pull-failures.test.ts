import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { Failure } from '../../../src/engine/failpoints.ts';
import { imageServices, type ImagesContext } from '../../../src/engine/images/image-services.ts';
import { pullImage } from '../../../src/engine/images/pull-image.ts';
import { cleanStaging } from '../../../src/engine/images/publish-image.ts';
import type { Operation } from '../../../src/engine/operations.ts';
import { listImages } from '../../../src/state/images.ts';
import { imageContext } from '../../support/image-context.ts';
import { putImage, startRegistry, type FakeRegistry } from '../../support/registry.ts';
import { pointsOf, runWith } from '../../support/vm-world.ts';

const kind = 'image.pull';
const timeoutMs = 120_000;

/** All that images are, in the database and on the host. Downloads are a cache: what is whole or begun may stay. */
function imageWorld({ db, layout }: ImagesContext) {
  return {
    rows: listImages(db).map(({ id, names }) => ({ id, names })),
    directories: namesIn(layout.imagesDirectory).filter((name) => /^[0-9a-f]{64}$/.test(name)),
    staging: namesIn(layout.imageStagingDirectory),
  };
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).toSorted();
  } catch {
    return [];
  }
}

/** A registry with two images; one of them is here, the other is about to be. Of several layers, the order would vary. */
async function openWorld(registry: FakeRegistry) {
  const context = imageContext();
  putImage(registry, 'kept', { layers: ['kept'] });
  const { id } = putImage(registry, 'app', { layers: ['one'] });
  await runWith(
    'setup',
    () => undefined,
    (operation) => pullImage(context, `${registry.host}/kept`, operation),
  );
  const pull = (operation: Operation) => pullImage(context, `${registry.host}/app`, operation);
  return { context, id, pull };
}

/** Each point of a pull, with a world of its own in which it is about to be reached. */
async function* worlds(registry: FakeRegistry) {
  const { context, pull } = await openWorld(registry);
  const points = await pointsOf(kind, pull);
  context[Symbol.dispose]();
  expect(points.length).toBeGreaterThan(6);
  for (const point of points) yield { point, ...(await openWorld(registry)) };
}

/** What had been published when the point was reached: the image is there, whole, though the pull has failed. */
const afterwards = /staging removed$/;

test.each([
  ['whose registry does not give it', {}],
  ['that takes it for smaller', { size: 5 }],
])('a layer that failed in another pull, %s, is fetched by one’s own', async (_, lie) => {
  await using healthy = await startRegistry();
  await using failing = await startRegistry();
  using context = imageContext();
  const layer = 'shared by both'.repeat(10);
  const { id } = putImage(healthy, 'app', { layers: [layer], env: ['A=1'] });
  const other = putImage(failing, 'app', { layers: [layer] });
  const [shared] = other.layerDigests;
  failing.putManifest('app', 'latest', {
    ...other.manifest,
    layers: other.manifest.layers.map((described) => ({ ...described, ...lie })),
  });
  const asked = Promise.withResolvers<void>();
  const joined = Promise.withResolvers<void>();
  failing.misbehave(async ({ path }, response) => {
    if (!path.endsWith(`/blobs/${shared}`)) return false;
    asked.resolve();
    await joined.promise;
    if ('size' in lie) return false;
    response.writeHead(403).end();
    return true;
  });
  const pull = (registry: FakeRegistry) =>
    runWith(
      kind,
      () => undefined,
      (operation) => pullImage(context, `${registry.host}/app`, operation),
    );
  const failed = expect(pull(failing)).rejects.toThrow();
  await asked.promise;
  const pulled = pull(healthy);
  const { blobs } = imageServices(context);
  await expect.poll(() => blobs.waiting(shared!)).toBe(2);
  joined.resolve();
  await failed;
  expect((await pulled).id).toBe(id);
  expect(healthy.requests.filter(({ path }) => path.endsWith(`/blobs/${shared}`))).toHaveLength(1);
});

test.each(['error', 'enospc', 'eacces', 'timeout'] as const)(
  'a pull that fails anywhere with %s leaves images as they were, and asking again brings it',
  { timeout: timeoutMs },
  async (failure) => {
    await using registry = await startRegistry();
    for await (const { point, context: opened, id, pull } of worlds(registry)) {
      using context = opened;
      const before = imageWorld(context);
      const failing = runWith(kind, (reached) => (reached === point ? failure : undefined), pull);
      await expect(failing, point).rejects.toThrow();
      const after = imageWorld(context);
      if (!afterwards.test(point)) expect(after, point).toEqual(before);

      expect((await runWith(kind, () => undefined, pull)).id, point).toBe(id);
      await cleanStaging(context.layout);
      const { rows, directories, staging } = imageWorld(context);
      expect(rows.map((row) => row.id).toSorted(), point).toEqual(directories);
      expect(directories, point).toContain(id);
      expect(directories, point).toHaveLength(2);
      expect(staging, point).toEqual([]);
    }
  },
);

test(
  'a pull that hangs anywhere can be cancelled, and leaves images as they were',
  { timeout: timeoutMs },
  async () => {
    await using registry = await startRegistry();
    for await (const { point, context: opened, pull } of worlds(registry)) {
      using context = opened;
      const before = imageWorld(context);
      const cancel = new AbortController();
      const hang = (reached: string): Failure | undefined => {
        if (reached !== point) return undefined;
        setImmediate(() => cancel.abort());
        return 'hang';
      };
      await expect(runWith(kind, hang, pull, cancel.signal), point).rejects.toMatchObject({
        code: 'cancelled',
      });
      if (!afterwards.test(point)) expect(imageWorld(context), point).toEqual(before);
    }
  },
);
