import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { imagePullBundle } from '../../src/engine/rpc/image-bundle-methods.ts';
import {
  imageDelete,
  imageImport,
  imageList,
  imagePromote,
  imageRegister,
  imageShow,
  imageTag,
} from '../../src/engine/rpc/image-methods.ts';
import { imagePrune } from '../../src/engine/rpc/image-prune-methods.ts';
import { openCrashLab } from '../support/crash-lab.ts';
import { program } from '../support/images.ts';
import { file, tarOf } from '../support/tar-builder.ts';

const lab = openCrashLab();
const { home } = lab.banger;
const ext4 = join(home, 'mine.ext4');
const tar = join(home, 'rootfs.tar');
const bundle = join(home, 'mine.tar.zst');
const exported = join(home, 'out');

beforeAll(async () => {
  writeFileSync(tar, tarOf([file('etc/os-release', 'ID=tiny\n')]));
  await program('mke2fs', ['-q', '-t', 'ext4', ext4, '16M']);
  await register();
  expect((await lab.banger.run(['image', 'bundle', 'one', '-o', bundle])).code).toBe(0);
});
afterAll(() => lab[Symbol.asyncDispose]());

async function forgetAll(): Promise<void> {
  for (const { id } of await lab.call(imageList, {})) await lab.call(imageDelete, { reference: id });
}

async function register(): Promise<void> {
  await forgetAll();
  await lab.call(imageRegister, { path: ext4, name: 'one' });
}

async function importOne(): Promise<void> {
  await forgetAll();
  await lab.call(imageImport, { path: tar, name: 'one' });
}

/** Names and what they lead to: a file of the user's, or one of ours that is there. */
async function world(): Promise<Record<string, string>> {
  const images = await lab.call(imageList, {});
  const found: Record<string, string> = {};
  const owned: string[] = [];
  for (const { id, names } of images) {
    const { path } = await lab.call(imageShow, { reference: id });
    if (path === undefined) owned.push(id);
    for (const name of names) found[name.replace(':latest', '')] = path === undefined ? 'ours' : 'the file';
  }
  const { imagesDirectory, imageStagingDirectory } = lab.layout;
  expect(
    readdirSync(imagesDirectory)
      .filter((name) => name !== '.staging')
      .sort(),
  ).toEqual(owned.sort());
  expect(existsSync(imageStagingDirectory) ? readdirSync(imageStagingDirectory) : []).toEqual([]);
  expect(existsSync(ext4)).toBe(true);
  return found;
}

async function writeOut(verb: 'export' | 'bundle'): Promise<void> {
  const { code, stderr } = await lab.banger.run(['image', verb, 'one', '-o', join(exported, 'x')]);
  // The file is there when it is complete, and only then.
  expect(readdirSync(exported)).toEqual(code === 0 ? ['x'] : []);
  if (code !== 0) throw new Error(stderr);
}

interface Scenario {
  readonly ready: () => Promise<unknown>;
  readonly act: () => Promise<unknown>;
  readonly before: Record<string, string>;
  readonly after: Record<string, string>;
}

const scenarios: Record<string, Scenario> = {
  import: {
    ready: forgetAll,
    act: () => lab.call(imageImport, { path: tar, name: 'new' }),
    before: {},
    after: { new: 'ours' },
  },
  register: {
    ready: forgetAll,
    act: () => lab.call(imageRegister, { path: ext4, name: 'one' }),
    before: {},
    after: { one: 'the file' },
  },
  promote: {
    ready: async () => {
      await register();
      await lab.call(imageTag, { reference: 'one', name: 'two' });
    },
    act: () => lab.call(imagePromote, { reference: 'one' }),
    before: { one: 'the file', two: 'the file' },
    after: { one: 'ours', two: 'ours' },
  },
  'pull of a bundle': {
    ready: forgetAll,
    act: () => lab.call(imagePullBundle, { source: bundle, name: 'new' }),
    before: {},
    after: { new: 'ours' },
  },
  delete: {
    ready: importOne,
    act: () => lab.call(imageDelete, { reference: 'one' }),
    before: { one: 'ours' },
    after: {},
  },
  prune: {
    ready: importOne,
    act: () => lab.call(imagePrune, { all: true, dryRun: false }),
    before: { one: 'ours' },
    after: {},
  },
  export: {
    ready: async () => {
      await register();
      rmSync(exported, { recursive: true, force: true });
      mkdirSync(exported);
    },
    act: () => writeOut('export'),
    before: { one: 'the file' },
    after: { one: 'the file' },
  },
  bundle: {
    ready: async () => {
      await register();
      rmSync(exported, { recursive: true, force: true });
      mkdirSync(exported);
    },
    act: () => writeOut('bundle'),
    before: { one: 'the file' },
    after: { one: 'the file' },
  },
};

test.each(Object.entries(scenarios))(
  'an engine that is killed at any point of %s leaves all or nothing',
  { timeout: 600_000 },
  async (_, { ready, act, before, after }) => {
    await ready();
    await lab.quietEngine();
    lab.arm();
    await act();
    const points = lab.trace();
    expect(points.length).toBeGreaterThan(0);
    expect(await world()).toEqual(after);
    for (const point of points) {
      await ready();
      await lab.quietEngine();
      lab.arm(`${point}=kill`);
      // It may be done by then: the last point is after the answer was decided.
      await act().catch(() => undefined);
      expect(lab.trace().at(-1)).toBe(point);
      lab.arm();
      await lab.quietEngine();
      const found = await world();
      expect([before, after], `killed at "${point}"`).toContainEqual(found);
      // What is done is done; what was undone can be done.
      if ('one' in before && JSON.stringify(found) === JSON.stringify(after)) continue;
      await act();
      expect(await world(), `done again after "${point}"`).toEqual(after);
    }
  },
);
