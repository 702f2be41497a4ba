import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { deleteImage } from '../../../src/engine/images/delete-image.ts';
import { promoteImage } from '../../../src/engine/images/promote-image.ts';
import { registerImage } from '../../../src/engine/images/register-image.ts';
import { exec } from '../../../src/host/exec.ts';
import {
  deleteImageRow,
  findImageByName,
  insertImage,
  listImages,
  setImageName,
  type Image,
} from '../../../src/state/images.ts';
import { imageContext, recordedOperation } from '../../support/image-context.ts';
import { runWith } from '../../support/vm-world.ts';

const { signal } = new AbortController();
const mine = 'docker.io/library/mine:latest';

/** A registered filesystem, and what promotes it while `meanwhile` happens. */
async function world() {
  const context = imageContext();
  onTestFinished(() => context[Symbol.dispose]());
  const path = join(context.directory, 'mine.ext4');
  execFileSync('mke2fs', ['-q', '-t', 'ext4', path, '4M'], { stdio: 'pipe' });
  const image = await registerImage(context, { path, name: 'mine' }, recordedOperation());
  const promote = (meanwhile: () => void = () => undefined): Promise<Image> =>
    runWith(
      'promote',
      (point) => (point === 'promote/image synced' ? void meanwhile() : undefined),
      (operation) => promoteImage({ ...context, exec }, 'mine', operation),
    );
  const other = (): Image => {
    const { names, ...row } = image;
    insertImage(context.db, { ...row, id: 'f'.repeat(64) });
    void names;
    return { ...image, id: 'f'.repeat(64) };
  };
  return { context, path, image, promote, other };
}

test('all names of a registered image lead to its copy afterwards', async () => {
  const { context, path, image, promote } = await world();
  setImageName(context.db, 'docker.io/library/mine:2', image.id);
  const copy = await promote();
  expect(copy.names).toEqual(['docker.io/library/mine:2', mine]);
  expect(copy.external).toBeUndefined();
  expect(listImages(context.db)).toHaveLength(1);
  expect(existsSync(path)).toBe(true);
});

test('a name that went to another image meanwhile stays there', async () => {
  const { context, image, promote, other } = await world();
  setImageName(context.db, 'docker.io/library/mine:2', image.id);
  const taker = other();
  const copy = await promote(() => setImageName(context.db, 'docker.io/library/mine:2', taker.id));
  expect(copy.names).toEqual([mine]);
  expect(findImageByName(context.db, 'docker.io/library/mine:2')?.id).toBe(taker.id);
});

test('an image that lost its last name, or was deleted meanwhile, does not come back', async () => {
  const { context, image, promote, other } = await world();
  const taker = other();
  await expect(promote(() => setImageName(context.db, mine, taker.id))).rejects.toMatchObject({
    code: 'busy',
  });
  expect(findImageByName(context.db, mine)?.id).toBe(taker.id);
  setImageName(context.db, mine, image.id);
  await expect(promote(() => deleteImageRow(context.db, image.id))).rejects.toMatchObject({ code: 'busy' });
  expect(listImages(context.db).map(({ id }) => id)).toEqual([taker.id]);
  expect(readdirSync(context.layout.imagesDirectory)).toEqual(['.staging']);
});

test('an image is not deleted while it is being copied', async () => {
  const { context } = await world();
  let refused: unknown;
  const slowCopy: typeof exec = async (argv, options) => {
    refused = await deleteImage(context, 'mine', signal).catch((error: unknown) => error);
    return exec(argv, options);
  };
  const copy = await promoteImage({ ...context, exec: slowCopy }, 'mine', recordedOperation());
  expect(String(refused)).toContain('is used by work in progress');
  expect(copy.names).toEqual([mine]);
});
