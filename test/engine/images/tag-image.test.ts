import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { ensureBaseImage } from '../../../src/engine/images/base-image.ts';
import { toImageDetails } from '../../../src/engine/images/image-views.ts';
import { pullImage } from '../../../src/engine/images/pull-image.ts';
import { renameImage, tagImage } from '../../../src/engine/images/tag-image.ts';
import { findImageByName, listImages, type Image } from '../../../src/state/images.ts';
import { imagePaths } from '../../../src/state/layout.ts';
import { imageContext, recordedOperation } from '../../support/image-context.ts';
import { putImage, startRegistry } from '../../support/registry.ts';

const { signal } = new AbortController();

async function twoImages(): Promise<
  AsyncDisposable & { context: ReturnType<typeof imageContext>; one: Image; two: Image; host: string }
> {
  const registry = await startRegistry();
  putImage(registry, 'one', { layers: ['one'] });
  putImage(registry, 'two', { layers: ['two'] });
  const context = imageContext();
  const one = await pullImage(context, `${registry.host}/one`, recordedOperation());
  const two = await pullImage(context, `${registry.host}/two`, recordedOperation());
  return {
    context,
    one,
    two,
    host: registry.host,
    async [Symbol.asyncDispose]() {
      context[Symbol.dispose]();
      await registry[Symbol.asyncDispose]();
    },
  };
}

test('a tag adds a name, and takes it from the image that had it', async () => {
  await using images = await twoImages();
  const { context, one, two, host } = images;
  const tagged = await tagImage(context, { reference: `${host}/one`, name: 'app:1' }, signal);
  expect(tagged.names).toEqual([`${host}/one:latest`, 'docker.io/library/app:1']);

  await tagImage(context, { reference: two.id, name: 'app:1' }, signal);
  expect(findImageByName(context.db, 'docker.io/library/app:1')?.id).toBe(two.id);
  expect(listImages(context.db).find((image) => image.id === one.id)?.names).toEqual([`${host}/one:latest`]);
});

test('a rename replaces one name and leaves the others', async () => {
  await using images = await twoImages();
  const { context, one, host } = images;
  await tagImage(context, { reference: one.id, name: 'extra' }, signal);
  const renamed = await renameImage(context, { reference: `${host}/one`, name: 'team/app:2' }, signal);
  expect(renamed.names).toEqual(['docker.io/library/extra:latest', 'docker.io/team/app:2']);
  const again = await renameImage(context, { reference: 'team/app:2', name: 'team/app:2' }, signal);
  expect(again.names).toEqual(renamed.names);
});

test('an id cannot be renamed, and the image inside banger keeps its name', async () => {
  await using images = await twoImages();
  const { context, one } = images;
  await expect(renameImage(context, { reference: one.id, name: 'x' }, signal)).rejects.toMatchObject({
    code: 'invalid_argument',
    hint: expect.stringContaining('banger image tag'),
  });
  await ensureBaseImage(context, recordedOperation());
  await expect(renameImage(context, { reference: 'base', name: 'x' }, signal)).rejects.toThrow(
    'always names',
  );
  expect((await tagImage(context, { reference: 'base', name: 'x' }, signal)).names).toContain('base');
});

test.each([
  ['base', 'is the name of the image inside banger'],
  [`x@sha256:${'a'.repeat(64)}`, 'has a digest'],
  ['Upper', 'lowercase'],
])('the new name %s is refused', async (name, why) => {
  await using images = await twoImages();
  const { context, one } = images;
  await expect(tagImage(context, { reference: one.id, name }, signal)).rejects.toThrow(why);
  await expect(renameImage(context, { reference: one.names[0]!, name }, signal)).rejects.toThrow(why);
});

test('a pulled image keeps its documents, and its layers are shown with their sizes', async () => {
  await using images = await twoImages();
  const { context, one } = images;
  const config = readFileSync(imagePaths(context.layout, one.id).config);
  expect(createHash('sha256').update(config).digest('hex')).toBe(one.id);
  const details = await toImageDetails(context, one);
  expect(details.layers).toEqual([{ digest: one.layers[0], sizeBytes: expect.any(Number), isCached: true }]);
});
