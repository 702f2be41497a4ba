import { appendFileSync, copyFileSync, existsSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openBanger } from '../support/banger.ts';
import { busyboxTar, program } from '../support/images.ts';

const banger = openBanger();
const file = join(banger.home, 'mine.ext4');

beforeAll(async () => {
  const tree = join(banger.home, 'tree');
  await program('mkdir', [tree]);
  await program('tar', ['-x', '-f', await busyboxTar(), '-C', tree]);
  await program('mke2fs', ['-q', '-t', 'ext4', '-d', tree, file, '1G']);
});
afterAll(() => banger[Symbol.asyncDispose]());

test('a file is registered in place, and a VM made of it boots', async () => {
  const image = await banger.json('image', 'register', file, '--name', 'mine');
  expect(image).toMatchObject({ source: 'register', os: 'Tiny Linux', hasShell: true, sizeBytes: 2 ** 30 });
  expect(await banger.json('image', 'show', 'mine')).toMatchObject({ path: file });
  await banger.ok(['vm', 'create', '--name', 'one', '--image', 'mine']);
  expect(await banger.guest('one', '. /etc/os-release; echo $ID; echo changed >/new')).toBe('tiny');
  await banger.ok(['vm', 'stop', 'one']);
});

test('a promoted image is a copy; VMs made of the file go on with it', async () => {
  const image = await banger.json<{ id: string }>('image', 'promote', 'mine');
  expect(await banger.json('image', 'show', 'mine')).toMatchObject({ id: image.id, usedBy: [] });
  expect(await banger.json('image', 'show', 'mine')).not.toHaveProperty('path');
  const again = await banger.run(['image', 'promote', 'mine']);
  expect([again.code, again.stderr]).toEqual([1, expect.stringContaining('is not a registered file')]);
  await banger.ok(['vm', 'start', 'one']);
  expect(await banger.guest('one', 'cat /new')).toBe('changed');
  await banger.ok(['vm', 'stop', 'one']);
});

test('a file that was changed is refused, by VMs that have it and for new ones', async () => {
  await banger.ok(['image', 'register', file, '--name', 'raw']);
  utimesSync(file, new Date(), new Date());
  const start = await banger.run(['vm', 'start', 'one']);
  expect(start.stderr).toContain('has changed since it was registered');
  const create = await banger.run(['vm', 'create', '--name', 'two', '--image', 'raw']);
  expect([create.code, create.stderr]).toEqual([
    1,
    expect.stringContaining('has changed since it was registered'),
  ]);
  expect(await banger.json('vm', 'list')).toHaveLength(1);
});

test('deleting a registered image leaves the file', async () => {
  await banger.ok(['vm', 'delete', 'one']);
  await banger.ok(['image', 'delete', 'raw']);
  expect(existsSync(file)).toBe(true);
});

test('what is no sound filesystem is refused', async () => {
  const bad = join(banger.home, 'bad');
  copyFileSync('/etc/os-release', bad);
  appendFileSync(bad, Buffer.alloc(8192));
  const { code, stderr } = await banger.run(['image', 'register', bad, '--name', 'bad']);
  expect([code, stderr]).toEqual([1, expect.stringContaining('is not ext4')]);
  const gone = await banger.run(['image', 'register', `${bad}-gone`, '--name', 'bad']);
  expect(gone.stderr).toContain('There is no file');
});
