import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { withFailpoints, type Failpoints } from '../../../src/engine/failpoints.ts';
import { deleteImage } from '../../../src/engine/images/delete-image.ts';
import { pruneImages } from '../../../src/engine/images/prune-images.ts';
import { tryMarkRowless } from '../../../src/engine/images/rowless.ts';
import { cleanStaging, removeUnownedImages } from '../../../src/engine/images/publish-image.ts';
import { deleteImageRow, type Image } from '../../../src/state/images.ts';
import { imagePaths, rowlessMark, vmPaths } from '../../../src/state/layout.ts';
import { addImage, one, two } from '../../support/add-image.ts';
import { concatenate, imageContext, recordedOperation } from '../../support/image-context.ts';

const { signal } = new AbortController();
test('what a dead engine left is removed, and nothing else', async () => {
  using context = imageContext();
  await addImage(context, 'docker.io/library/a:latest', one);
  const { imagesDirectory, imageStagingDirectory } = context.layout;
  mkdirSync(join(imageStagingDirectory, 'image-x'), { recursive: true });
  mkdirSync(join(imagesDirectory, two));
  writeFileSync(join(imagesDirectory, 'notes'), 'mine');
  await cleanStaging(context.layout);
  await removeUnownedImages(context.layout, context.db);
  expect(existsSync(imageStagingDirectory)).toBe(false);
  expect(existsSync(join(imagesDirectory, two))).toBe(false);
  expect(existsSync(join(imagesDirectory, 'notes'))).toBe(true);
  expect(existsSync(imagePaths(context.layout, one).rootfs)).toBe(true);
});

test('an image that a copy of the database does not know is kept; one that was being deleted or made goes', async () => {
  using context = imageContext();
  const { layout, db } = context;
  await addImage(context, 'docker.io/library/a:latest', one);
  await addImage(context, 'docker.io/library/b:latest', two);
  const directories = [one, two].map((id) => imagePaths(layout, id).directory);
  // Recorded, and killed before it was said that there is a row.
  writeFileSync(rowlessMark(directories[0]!), '');
  expect(await removeUnownedImages(layout, db)).toEqual([]);
  for (const id of [one, two]) {
    db.prepare('DELETE FROM image_names WHERE image_id = ?').run(id);
    deleteImageRow(db, id);
  }
  expect(await removeUnownedImages(layout, db)).toEqual(directories);
  expect(directories.map(existsSync)).toEqual([true, true]);

  // What an engine says that is killed between the row and the files.
  await tryMarkRowless(directories[1]!);
  expect(await removeUnownedImages(layout, db)).toEqual([directories[0]]);
  expect(directories.map(existsSync)).toEqual([true, false]);
});

test('an image that the disk of a lost VM builds on is not deleted', async () => {
  using context = imageContext();
  const { layout } = context;
  await addImage(context, 'docker.io/library/a:latest', one);
  await addImage(context, 'docker.io/library/b:latest', two);
  const { directory, disk } = vmPaths(layout, 'c'.repeat(32));
  mkdirSync(directory, { recursive: true });
  const { rootfs } = imagePaths(layout, one);
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', rootfs, disk('qcow2'), '1M']);
  await expect(deleteImage(context, 'a', signal)).rejects.toMatchObject({
    message: `Image "a:latest" may be used by a VM that the database does not know: "${directory}"`,
  });
  const pruned = await pruneImages(context, { all: true, dryRun: false }, recordedOperation());
  expect(pruned.removed.map(({ id }) => id)).toEqual([two]);
  rmSync(directory, { recursive: true });
  expect((await deleteImage(context, 'a', signal)).deleted).toBe(one);
});

test('an image that the disk of a lost VM builds on is not replaced by one that differs', async () => {
  let content = 'first';
  using context = imageContext({
    tools: {
      convert: async (options) => {
        const converted = await concatenate(options);
        writeFileSync(options.destination, content);
        return { ...converted, sizeBytes: content.length };
      },
    },
  });
  const { layout } = context;
  await addImage(context, 'docker.io/library/a:latest', one);
  const { directory, disk } = vmPaths(layout, 'c'.repeat(32));
  mkdirSync(directory, { recursive: true });
  const { rootfs } = imagePaths(layout, one);
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', rootfs, disk('qcow2'), '1M']);
  const add = (text: string): Promise<Image> => {
    content = text;
    return addImage(context, 'docker.io/library/a:latest', one);
  };
  deleteImageRow(context.db, one);
  await expect(add('other')).rejects.toMatchObject({
    code: 'invalid_state',
    message: expect.stringContaining(`The disk at "${directory}" may build on`) as string,
  });
  expect(readFileSync(rootfs, 'utf8')).toBe('first');
  expect((await add('first')).id).toBe(one);
  deleteImageRow(context.db, one);
  rmSync(directory, { recursive: true });
  await add('other');
  expect(readFileSync(rootfs, 'utf8')).toBe('other');
});

test('an image that is being made or deleted is marked for as long as it has files and no row', async () => {
  using context = imageContext();
  const { directory } = imagePaths(context.layout, one);
  const seen: string[] = [];
  const isMarked = (): boolean => existsSync(rowlessMark(directory));
  const look: Failpoints = (point) => {
    if (existsSync(directory)) seen.push(`${point}: ${isMarked() ? 'marked' : 'not marked'}`);
    return undefined;
  };
  await withFailpoints(look, recordedOperation(), () => addImage(context, 'docker.io/library/a:latest', one));
  expect(isMarked()).toBe(false);
  await withFailpoints(look, recordedOperation(), () => deleteImage(context, 'a', signal));
  expect(seen).toEqual([
    'test/image in place: marked',
    'test/staging removed: not marked',
    'test/image forgotten: marked',
  ]);
});

test('files without a row do not stand in the way of the image they belong to', async () => {
  using context = imageContext();
  mkdirSync(imagePaths(context.layout, one).directory, { recursive: true });
  const image = await addImage(context, 'docker.io/library/a:latest', one);
  expect(image.id).toBe(one);
  expect(existsSync(imagePaths(context.layout, one).rootfs)).toBe(true);
});
