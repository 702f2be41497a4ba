import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { deleteImage } from '../../../src/engine/images/delete-image.ts';
import { ensureImage } from '../../../src/engine/images/ensure-image.ts';
import { closeName, findImage, getImageByReference } from '../../../src/engine/images/find-image.ts';
import { listImages, setImageName } from '../../../src/state/images.ts';
import { imagePaths } from '../../../src/state/layout.ts';
import { addVm } from '../../support/add-vm.ts';
import { addImage, digest, one, two } from '../../support/add-image.ts';
import { imageContext, recordedOperation } from '../../support/image-context.ts';
import { putImage, startRegistry } from '../../support/registry.ts';

const { signal } = new AbortController();
test('an image is found by every form of its name and by its id', async () => {
  using context = imageContext();
  await addImage(context, 'docker.io/library/ubuntu:latest', one);
  const forms = [
    'ubuntu',
    'ubuntu:latest',
    'docker.io/ubuntu',
    'library/ubuntu',
    one,
    `sha256:${one}`,
    'abcdef',
    'abcdef1',
    'abc',
    'sha256:abc',
  ];
  for (const form of [...forms, `ubuntu@${digest}`]) expect(findImage(context.db, form)?.id).toBe(one);
  for (const form of ['ubuntu:22.04', 'ab', 'owner/ubuntu', `debian@${digest}`, two]) {
    expect(findImage(context.db, form)).toBeUndefined();
  }
});

test('a few hex digits are a name first, where there is one', async () => {
  using context = imageContext();
  await addImage(context, 'docker.io/library/other:latest', one);
  await addImage(context, 'docker.io/library/abc:latest', '1'.repeat(64));
  expect(findImage(context.db, 'abc')?.id).toBe('1'.repeat(64));
  expect(findImage(context.db, 'abcd')?.id).toBe(one);
  setImageName(context.db, 'docker.io/library/111:latest', '1'.repeat(64));
  // Of its names the one that was said is gone, not the image that its id begins like.
  expect(await deleteImage(context, '111', signal)).toEqual({ untagged: ['111:latest'], deleted: null });
  expect(() => getImageByReference(context.db, 'ca2e')).toThrow(
    expect.objectContaining({ hint: 'List images with: banger image list' }),
  );
  expect(() => getImageByReference(context.db, 'fed')).toThrow(
    expect.objectContaining({ hint: 'Pull it with: banger image pull fed' }),
  );
});

test('a mistyped name that no registry has is told with the one that is here', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  await addImage(context, `${registry.host}/tiny:latest`, one);
  expect(closeName(context.db, 'tinny')).toBe(`${registry.host}/tiny:latest`);
  await expect(ensureImage(context, `${registry.host}/tinny`, recordedOperation())).rejects.toMatchObject({
    code: 'not_found',
    hint: expect.stringMatching(
      /^"127.0.0.1:\d+\/tinny" is not on this host, "127.0.0.1:\d+\/tiny:latest" is: did you mean that\? Check name and tag/,
    ) as string,
  });
});

test('an id prefix of two images is refused with both', async () => {
  using context = imageContext();
  await addImage(context, 'docker.io/library/a:latest', one);
  await addImage(context, 'docker.io/library/b:latest', two);
  expect(() => findImage(context.db, 'abcdef')).toThrow(
    '"abcdef" could be any of these images: abcdef111111 (a:latest), abcdef222222 (b:latest)',
  );
});

test('a name that is nearly right gets a suggestion', async () => {
  using context = imageContext();
  await addImage(context, 'docker.io/library/ubuntu:24.04', one);
  for (const wrong of ['ubunut', 'ubuntu', 'ubuntu:24.4']) {
    expect(() => getImageByReference(context.db, wrong)).toThrow(
      expect.objectContaining({ code: 'not_found', hint: expect.stringContaining('"ubuntu:24.04"') }),
    );
  }
  await addImage(context, 'localhost:5000/team/app:1', two);
  expect(() => getImageByReference(context.db, 'app')).toThrow(
    expect.objectContaining({ hint: expect.stringContaining('"localhost:5000/team/app:1"') }),
  );
  expect(() => getImageByReference(context.db, 'alpine')).toThrow(
    expect.objectContaining({ hint: 'Pull it with: banger image pull alpine' }),
  );
});

test.each([
  ['fedroa', 'Did you mean "fedora"? Pull it with: banger image pull fedora'],
  ['bsae', 'Did you mean "base"? Pull it with: banger image pull base'],
  ['own-app', 'Did you mean "our-app"? Pull it with: banger image pull our-app'],
  ['base', 'Pull it with: banger image pull base'],
  ['team/app:1', 'Pull it with: banger image pull team/app:1'],
  ['abcdef123456', 'List images with: banger image list'],
])('"%s", which is not here, gets the hint: %s', async (reference, hint) => {
  using context = imageContext();
  const catalog = { 'our-app': 'registry.example/team/app' };
  expect(() => getImageByReference(context.db, reference, catalog)).toThrow(
    expect.objectContaining({ code: 'not_found', hint }),
  );
});

test('what is to be deleted and is not here need not be pulled for that', async () => {
  using context = imageContext();
  await expect(deleteImage(context, 'ubuntu', signal)).rejects.toMatchObject({
    code: 'not_found',
    hint: 'List images with: banger image list',
  });
});

test('deleting one of several names leaves the image, deleting the last takes it', async () => {
  using context = imageContext();
  await addImage(context, 'docker.io/library/a:latest', one);
  setImageName(context.db, 'docker.io/library/b:latest', one);
  expect(await deleteImage(context, 'a', signal)).toEqual({ untagged: ['a:latest'], deleted: null });
  expect(await deleteImage(context, 'b', signal)).toEqual({ untagged: ['b:latest'], deleted: one });
  expect(listImages(context.db)).toEqual([]);
  expect(existsSync(imagePaths(context.layout, one).directory)).toBe(false);
});

test('deleting by id takes all names', async () => {
  using context = imageContext();
  await addImage(context, 'docker.io/library/a:latest', one);
  setImageName(context.db, 'docker.io/library/b:latest', one);
  expect(await deleteImage(context, 'abcdef', signal)).toEqual({
    untagged: ['a:latest', 'b:latest'],
    deleted: one,
  });
});

test('an image that VMs use stays, with its last name and its files', async () => {
  using context = imageContext();
  await addImage(context, 'docker.io/library/a:latest', one);
  addVm(context, 'web', one);
  addVm(context, 'db', one);
  await expect(deleteImage(context, 'a', signal)).rejects.toMatchObject({
    code: 'invalid_state',
    message: 'Image "a:latest" is used by VM "db", "web"',
    hint: 'Delete what uses it first: banger vm delete db web',
  });
  expect(findImage(context.db, 'a')?.id).toBe(one);
  expect(existsSync(imagePaths(context.layout, one).rootfs)).toBe(true);
});

test('the embedded image is unpacked once, and replaced when the binary brings another', async () => {
  let base = 'old base';
  using context = imageContext({ base: () => base });
  const [old, same] = await Promise.all([
    ensureImage(context, 'base', recordedOperation()),
    ensureImage(context, 'base', recordedOperation()),
  ]);
  expect(same).toEqual(old);
  expect(old).toMatchObject({ source: 'embedded', names: ['base'] });

  base = 'new base';
  using next = imageContext({ base: () => base });
  // Another engine on the same state.
  const upgraded = { ...next, layout: context.layout, db: context.db };
  addVm(context, 'web', old.id);
  const { imageServices } = await import('../../../src/engine/images/image-services.ts');
  imageServices(context).baseDigest = undefined;
  const fresh = await ensureImage({ ...upgraded, assets: next.assets }, 'base', recordedOperation());
  expect(fresh.id).not.toBe(old.id);
  expect(readFileSync(imagePaths(context.layout, fresh.id).rootfs, 'utf8')).toBe('new base');
  // A VM was made from it.
  expect(listImages(context.db).map(({ id, names }) => ({ id, names }))).toContainEqual({
    id: old.id,
    names: [],
  });
});

test('an image whose files are gone is pulled again', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  const { id } = putImage(registry, 'app');
  const name = `${registry.host}/app`;
  await ensureImage(context, name, recordedOperation());
  registry.requests.length = 0;
  await ensureImage(context, name, recordedOperation());
  expect(registry.requests).toEqual([]);

  rmSync(imagePaths(context.layout, id).directory, { recursive: true });
  await ensureImage(context, name, recordedOperation());
  expect(existsSync(imagePaths(context.layout, id).rootfs)).toBe(true);
});

test('an image whose filesystem was cut off is not used: it is pulled again', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  const { id } = putImage(registry, 'app');
  const name = `${registry.host}/app`;
  await ensureImage(context, name, recordedOperation());
  const { rootfs } = imagePaths(context.layout, id);
  const whole = readFileSync(rootfs, 'utf8');
  writeFileSync(rootfs, whole.slice(1));
  await ensureImage(context, name, recordedOperation());
  expect(readFileSync(rootfs, 'utf8')).toBe(whole);
});
