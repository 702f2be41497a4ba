import { existsSync, rmSync } from 'node:fs';
import { expect, test } from 'vitest';
import { deleteImage } from '../../../src/engine/images/delete-image.ts';
import { ensureImage } from '../../../src/engine/images/ensure-image.ts';
import { pullImage } from '../../../src/engine/images/pull-image.ts';
import { rootfsFile } from '../../../src/engine/images/rootfs-file.ts';
import { renameImage, tagImage } from '../../../src/engine/images/tag-image.ts';
import { getImage, setImageName } from '../../../src/state/images.ts';
import { imagePaths } from '../../../src/state/layout.ts';
import { imageContext, recordedOperation } from '../../support/image-context.ts';
import { putImage, startRegistry, type FakeImage, type FakeRegistry } from '../../support/registry.ts';

const { signal } = new AbortController();

interface Pulled extends AsyncDisposable {
  readonly context: ReturnType<typeof imageContext>;
  readonly registry: FakeRegistry;
  readonly app: FakeImage;
  /** Stored name that was pulled */
  readonly name: string;
  /** Registries that were asked since the files were lost */
  readonly asked: string[];
  lose(): void;
}

/** An image that was pulled, and a look at who is asked for it later. */
async function pulledImage(): Promise<Pulled> {
  const registry = await startRegistry();
  const context = imageContext();
  const app = putImage(registry, 'team/app');
  const name = `${registry.host}/team/app:latest`;
  await pullImage(context, name, recordedOperation());
  const asked: string[] = [];
  const downloads = context.imageTools!.downloads!;
  const { repository } = downloads;
  Object.assign(downloads, {
    repository(reference: Parameters<typeof repository>[0]) {
      asked.push(reference.registry);
      if (reference.registry !== registry.host) throw new Error(`asked ${reference.registry}`);
      return repository.call(downloads, reference);
    },
  });
  return {
    context,
    registry,
    app,
    name,
    asked,
    lose: () => rmSync(imagePaths(context.layout, app.id).rootfs),
    async [Symbol.asyncDispose]() {
      context[Symbol.dispose]();
      await registry[Symbol.asyncDispose]();
    },
  };
}

test.each(['pulled', 'given'])(
  'an image whose files are lost comes again from where it was pulled when its %s name is used',
  async (which) => {
    await using lab = await pulledImage();
    const { context, app, name, registry } = lab;
    await tagImage(context, { reference: name, name: 'app' }, signal);
    lab.lose();
    const image = await ensureImage(context, which === 'given' ? 'app' : name, recordedOperation());
    expect(image).toMatchObject({ id: app.id, names: [name, 'docker.io/library/app:latest'] });
    expect(image.digests).toEqual({ [name]: app.digest });
    expect(existsSync(await rootfsFile(context, image))).toBe(true);
    expect(lab.asked).toEqual([registry.host]);
  },
);

test('a tag that has moved on since does not become what is made of the image', async () => {
  await using lab = await pulledImage();
  const { context, app, name, registry } = lab;
  const next = putImage(registry, 'team/app', { layers: ['something else'] });
  lab.lose();
  expect((await ensureImage(context, name, recordedOperation())).id).toBe(app.id);

  // The registry has thrown away what no tag leads to.
  registry.manifests.delete(`team/app@${app.digest}`);
  lab.lose();
  await expect(ensureImage(context, name, recordedOperation())).rejects.toMatchObject({
    code: 'not_found',
    message: `The files of image "${name}" are gone, and its registry does not have "${registry.host}/team/app@${app.digest}", which it was pulled as`,
    hint: `If its tag has moved on, take what it is now: banger image pull ${name}`,
  });
  expect((await pullImage(context, name, recordedOperation())).id).toBe(next.id);
});

test.each<[string, (lab: Pulled) => Promise<unknown>]>([
  ['renamed', ({ context, name }) => renameImage(context, { reference: name, name: 'app' }, signal)],
  [
    'deleted but for a name of our own',
    async ({ context, name }) => {
      await tagImage(context, { reference: name, name: 'app' }, signal);
      await deleteImage(context, name, signal);
    },
  ],
])('nobody is asked for an image whose pulled name was %s', async (_, change) => {
  await using lab = await pulledImage();
  const { context } = lab;
  await change(lab);
  lab.lose();
  await expect(ensureImage(context, 'app', recordedOperation())).rejects.toMatchObject({
    code: 'invalid_state',
    message: expect.stringMatching(/^The filesystem of image "app:latest" is gone: "/) as string,
    hint: 'It was pulled, and no name that is left says from where: pull it by the name that it has there (VMs made from it start again then)',
  });
  expect(lab.asked).toEqual([]);
});

test('in a database of before names had digests, a name without a registry is asked for last', async () => {
  await using lab = await pulledImage();
  const { context, app, registry } = lab;
  // Every name of a pulled image got its digest.
  setImageName(context.db, 'docker.io/library/app:latest', app.id, app.digest);
  lab.lose();
  await expect(rootfsFile(context, getImage(context.db, app.id))).rejects.toMatchObject({
    hint: `Fetch it again: banger image pull ${registry.host}/team/app@${app.digest} (VMs made from it start again then)`,
  });
  expect((await ensureImage(context, 'app', recordedOperation())).id).toBe(app.id);
  expect(lab.asked).toEqual([registry.host]);
});

test('what one registry does not have any more is asked of the next that the image was pulled from', async () => {
  await using lab = await pulledImage();
  const { context, app, name, registry } = lab;
  const second = `${registry.host}/copy:1`;
  registry.putManifest('copy', '1', app.manifest);
  await pullImage(context, second, recordedOperation());
  registry.manifests.delete(`team/app@${app.digest}`);
  lab.lose();
  const image = await ensureImage(context, name, recordedOperation());
  expect(image).toMatchObject({ id: app.id, names: [second, name].toSorted() });
});
