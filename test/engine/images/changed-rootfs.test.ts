import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { expect, test } from 'vitest';
import { ensureImage } from '../../../src/engine/images/ensure-image.ts';
import { imageServices, type ImagesContext } from '../../../src/engine/images/image-services.ts';
import { pullImage } from '../../../src/engine/images/pull-image.ts';
import { publishImage, stagedRootfs } from '../../../src/engine/images/publish-image.ts';
import { rootfsFile } from '../../../src/engine/images/rootfs-file.ts';
import { findImageById, getImage, setImageName, setImageRootfs } from '../../../src/state/images.ts';
import { imagePaths } from '../../../src/state/layout.ts';
import { addVm } from '../../support/add-vm.ts';
import { concatenate, imageContext, recordedOperation } from '../../support/image-context.ts';
import { putImage, startRegistry } from '../../support/registry.ts';

const fileOf = (context: ImagesContext, id: string): Promise<string> =>
  rootfsFile(context, getImage(context.db, id));

/** Other bytes, same size, in place. */
function scribble(rootfs: string): void {
  const bytes = readFileSync(rootfs);
  bytes.writeUInt8(bytes[0]! ^ 1, 0);
  writeFileSync(rootfs, bytes);
}

test.each<[string, (rootfs: string) => void, RegExp]>([
  ['written to', scribble, /, on which VM "web" stands, was changed by somebody/],
  ['cut off', (rootfs) => writeFileSync(rootfs, readFileSync(rootfs).subarray(1)), /was changed/],
  ['touched', (rootfs) => utimesSync(rootfs, 1, 1), /was changed/],
  ['removed', (rootfs) => rmSync(rootfs), /is gone/],
])('a filesystem that was %s boots no VM until it is pulled again', async (_, harm, why) => {
  await using registry = await startRegistry();
  using context = imageContext();
  const { id } = putImage(registry, 'app');
  const name = `${registry.host}/app`;
  await pullImage(context, name, recordedOperation());
  addVm(context, 'web', id);
  const { rootfs } = imagePaths(context.layout, id);
  const whole = readFileSync(rootfs);
  expect(await fileOf(context, id)).toBe(rootfs);

  harm(rootfs);
  await expect(fileOf(context, id)).rejects.toMatchObject({
    code: 'invalid_state',
    message: expect.stringMatching(why),
    hint: expect.stringContaining(`banger image pull ${name}`),
  });
  await pullImage(context, name, recordedOperation());
  expect(await fileOf(context, id)).toBe(rootfs);
  expect(readFileSync(rootfs)).toEqual(whole);
  // What was in its place takes no room any more.
  expect(readdirSync(context.layout.imageStagingDirectory)).toEqual([]);
});

test('a state directory that was copied is fine, unless its content is another', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  const { id } = putImage(registry, 'app');
  await pullImage(context, `${registry.host}/app`, recordedOperation());
  const { rootfs } = imagePaths(context.layout, id);
  const restore = (): void => {
    copyFileSync(rootfs, `${rootfs}.copy`);
    renameSync(`${rootfs}.copy`, rootfs);
  };
  restore();
  expect(await fileOf(context, id)).toBe(rootfs);
  // It is known by its new inode from now on.
  scribble(rootfs);
  await expect(fileOf(context, id)).rejects.toThrow('was changed');
  restore();
  await expect(fileOf(context, id)).rejects.toThrow('was changed');
});

test('an image of an earlier version is known from its first use on', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  const { id } = putImage(registry, 'app');
  const { sizeBytes } = await pullImage(context, `${registry.host}/app`, recordedOperation());
  setImageRootfs(context.db, id, { sizeBytes, rootfs: undefined });
  const { rootfs } = imagePaths(context.layout, id);
  expect(await fileOf(context, id)).toBe(rootfs);
  scribble(rootfs);
  await expect(fileOf(context, id)).rejects.toThrow('was changed');
});

test('what VMs stand on is replaced by the same only', async () => {
  await using registry = await startRegistry();
  let suffix = '';
  using context = imageContext({
    tools: {
      convert: async (options) => {
        const converted = await concatenate(options);
        writeFileSync(options.destination, suffix, { flag: 'a' });
        return { ...converted, sizeBytes: converted.sizeBytes + suffix.length };
      },
    },
  });
  const { id } = putImage(registry, 'app');
  const name = `${registry.host}/app`;
  await ensureImage(context, name, recordedOperation());
  const vm = addVm(context, 'web', id);
  const { rootfs } = imagePaths(context.layout, id);
  scribble(rootfs);
  suffix = 'laid out otherwise';
  await expect(ensureImage(context, name, recordedOperation())).rejects.toMatchObject({
    message: expect.stringContaining('differs from what VM "web" was made from'),
    hint: expect.stringContaining('banger vm delete web'),
  });
  // A disk that is whole in itself does not mind.
  context.db.prepare("UPDATE vms SET disk_method = 'copy' WHERE id = ?").run(vm.id);
  await ensureImage(context, name, recordedOperation());
  expect(await fileOf(context, id)).toBe(rootfs);
  expect(readFileSync(rootfs, 'utf8')).toMatch(/laid out otherwise$/);
});

test('an image that another one replaces stays while somebody is about to make a VM of it', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  putImage(registry, 'app');
  const image = await pullImage(context, `${registry.host}/app`, recordedOperation());
  const replace = async (letter: string): Promise<void> => {
    const stagingDirectory = `${context.layout.imageStagingDirectory}/${letter}`;
    mkdirSync(stagingDirectory);
    copyFileSync(imagePaths(context.layout, image.id).rootfs, stagedRootfs(stagingDirectory));
    const { signal } = new AbortController();
    const publication = { stagingDirectory, replaces: image.id };
    await publishImage(context, { ...publication, image: { ...image, id: letter.repeat(64) } }, signal);
  };
  const lease = imageServices(context).leases.images.take([image.id]);
  await replace('b');
  expect(findImageById(context.db, image.id)).toMatchObject({ names: [] });
  lease[Symbol.dispose]();
  setImageName(context.db, image.names[0]!, image.id);
  await replace('c');
  expect(findImageById(context.db, image.id)).toBeUndefined();
});
