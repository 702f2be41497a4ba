import {
  chmodSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createFixture, type Fixture } from './workspace-fixture.ts';
import { viewOf } from '../../support/git-repo.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });

let fixture: Fixture;
/** Called before each program of the guest; may throw, as a connection that breaks */
let onRun: (argv: readonly string[]) => void;
beforeEach(() => {
  onRun = () => undefined;
  fixture = createFixture({ onRun: (argv) => onRun(argv) });
});
afterEach(() => fixture.remove());

const isUpload = (argv: readonly string[]): boolean =>
  argv.some((word) => /gunzip -c.*>\.git\/banger-next\.part/.test(word));

/** Does something in the guest once, when an update is about to arrive. */
function onUpload(act: () => void): void {
  onRun = (argv) => {
    if (!isUpload(argv)) return;
    onRun = () => undefined;
    act();
  };
}

const read = (path: string): string => readFileSync(join(fixture.copy.path, path), 'utf8');

test('what the guest put in the way of a new file is not lost: files, directories, symlinks, ignored ones', async () => {
  const { repo, copy } = fixture;
  repo.write('.gitignore', 'secret\n');
  repo.write('dir/file', 'x\n');
  repo.write('kept', 'x\n');
  repo.commit('first');
  await fixture.prepare();
  copy.write('new', 'of the guest\n');
  copy.write('other/made', 'of the guest\n');
  copy.write('secret', 'of the guest\n');
  repo.write('new', 'of the host\n');
  repo.write('other', 'of the host\n');
  repo.git('add', 'new', 'other');
  await expect(fixture.prepare()).rejects.toMatchObject({
    message: expect.stringMatching(/changes that would be lost: "new", "other\/made"/) as string,
  });
  repo.git('rm', '-q', '-f', '--cached', 'new', 'other');
  rmSync(join(repo.path, 'new'));
  rmSync(join(repo.path, 'other'));
  repo.write('secret', 'of the host\n');
  await expect(fixture.prepare({ include: [join(repo.path, 'secret')] })).rejects.toMatchObject({
    message: expect.stringMatching(/changes that would be lost: "secret"/) as string,
  });
  expect(read('secret')).toBe('of the guest\n');
  copy.write('secret', 'of the host\n');
  await fixture.prepare({ include: [join(repo.path, 'secret')] });

  // What vanishes here goes there, and what was made there stays, in the same directory too.
  copy.write('dir/made', 'of the guest\n');
  rmSync(join(repo.path, 'dir'), { recursive: true });
  await fixture.prepare();
  expect(readdirSync(join(copy.path, 'dir'))).toEqual(['made']);
  await fixture.prepare({ overwrite: true, include: [join(repo.path, 'secret')] });
  expect(existsSync(join(copy.path, 'dir'))).toBe(false);
  expect(read('secret')).toBe('of the host\n');
});

test('ignored files of the guest are not lost where the host has a file in place of their directory', async () => {
  const { repo, copy } = fixture;
  repo.write('.gitignore', 'cache\n/build/\n');
  repo.write('src/a', 'a\n');
  repo.commit('first');
  await fixture.prepare();
  copy.write('src/cache', 'of the guest\n');
  copy.write('build/out', 'of the guest\n');
  rmSync(join(repo.path, 'src'), { recursive: true });
  repo.write('src', 'a file\n');
  repo.write('build', 'a file\n');
  repo.write('other', 'a file\n');
  repo.git('add', '-A', '-f');
  await expect(fixture.prepare()).rejects.toMatchObject({
    message: expect.stringMatching(/changes that would be lost: "(src\/cache|build\/out)", "/) as string,
  });
  const { update } = await fixture.prepare({ policy: 'keep' });
  expect(update?.conflicts.toSorted()).toEqual(['build/out', 'src/cache']);
  expect([read('src/cache'), read('build/out'), read('other')]).toEqual([
    'of the guest\n',
    'of the guest\n',
    'a file\n',
  ]);
  // What was not sent is not missing there: taken back here, it would be lost.
  expect((await fixture.export()).files).toEqual([]);
  await fixture.apply();
  expect(readFileSync(join(repo.path, 'src'), 'utf8')).toBe('a file\n');
  await fixture.prepare({ overwrite: true });
  expect(viewOf(copy)).toEqual(viewOf(repo));
});

test('a new file in a directory that the guest has renamed is not put where the directory was', async () => {
  const { repo, copy } = fixture;
  for (const name of ['src/a', 'src/deep/b', 'other/c']) repo.write(name, `${name}\n`);
  repo.commit('first');
  await fixture.prepare();
  renameSync(join(copy.path, 'src'), join(copy.path, 'lib'));
  copy.write('lib/a', 'changed\n');
  repo.write('src/deep/new', 'new\n');
  repo.write('other/new', 'new\n');
  repo.git('add', '-A');
  await expect(fixture.prepare()).rejects.toMatchObject({
    message: 'VM "web" renamed "src/deep" to "lib/deep", and new in it here: "src/deep/new"',
    hint: expect.stringContaining(`banger workspace apply ${repo.path} --vm web`) as string,
  });
  expect(existsSync(join(copy.path, 'other/new'))).toBe(false);
  const { update } = await fixture.prepare({ policy: 'keep' });
  expect(update?.conflicts).toEqual(['src/deep/new']);
  expect([existsSync(join(copy.path, 'src')), read('other/new')]).toEqual([false, 'new\n']);
  await fixture.apply();
  expect(readFileSync(join(repo.path, 'src/deep/new'), 'utf8')).toBe('new\n');
  // Both have it now, and what is in the old place is there because somebody wants it.
  await fixture.prepare();
  expect([read('src/deep/new'), read('lib/a')]).toEqual(['new\n', 'changed\n']);
});

test.each([
  ['a program of ours', {}],
  ['its shell, as guests of older builds do', { programs: '/nonexistent' }],
])('what the guest changes while an update is on its way is seen by %s, and not lost', async (_, options) => {
  fixture.remove();
  fixture = createFixture({ onRun: (argv) => onRun(argv), ...options });
  const { repo, copy } = fixture;
  for (const name of ['edited', 'gone', 'same']) repo.write(name, 'x\n');
  repo.commit('first');
  await fixture.prepare();
  for (const name of ['edited', 'new']) repo.write(name, 'of the host\n');
  rmSync(join(repo.path, 'gone'));
  repo.git('add', '-A');
  onUpload(() => {
    for (const name of ['edited', 'new', 'gone', 'same']) copy.write(name, 'of the guest\n');
    // One that is older than all of this, moved to its place.
    copy.write('old', 'of the guest\n');
    utimesSync(join(copy.path, 'old'), 1, 1);
    renameSync(join(copy.path, 'old'), join(copy.path, 'edited'));
  });
  await expect(fixture.prepare()).rejects.toMatchObject({
    message: expect.stringContaining('changes that would be lost: "edited", "gone", "new"') as string,
  });
  expect(['edited', 'new', 'gone', 'same'].map(read)).toEqual(Array(4).fill('of the guest\n'));

  // A commit, which the branch of the host would hide.
  copy.git('reset', '-q', '--hard');
  copy.git('clean', '-q', '-f');
  repo.commit('second');
  onUpload(() => {
    copy.write('same', 'of the guest\n');
    copy.commit('of the guest');
  });
  await expect(fixture.prepare()).rejects.toThrow('has commits that would be lost');
  expect(copy.git('log', '-1', '--format=%s')).toBe('of the guest\n');

  // One that does not stop.
  let count = 0;
  onRun = (argv) => isUpload(argv) && copy.write('edited', `${++count}\n`);
  await expect(fixture.prepare({ overwrite: true })).rejects.toMatchObject({
    code: 'busy',
    message: expect.stringContaining('keeps changing: "edited"; nothing was replaced there') as string,
  });
  expect([read('edited'), count]).toEqual(['3\n', 3]);
  onRun = () => undefined;
  await fixture.prepare({ overwrite: true });
  expect(viewOf(copy)).toEqual(viewOf(repo));
});

test('a merge or a rebase of the guest’s is finished there before the host moves on', async () => {
  const { repo, copy } = fixture;
  repo.write('file', 'one\n');
  const first = repo.commit('first');
  repo.write('file', 'two\n');
  repo.commit('second');
  repo.write('loose', 'x\n');
  repo.git('add', 'loose');
  await fixture.prepare();
  copy.git('commit', '-qm', 'loose');
  copy.git('switch', '-q', '-c', 'side', first);
  copy.write('file', 'side\n');
  copy.git('commit', '-qam', 'side');
  expect(() => copy.git('merge', 'main')).toThrow();
  // What does not touch it goes on.
  repo.write('loose', 'y\n');
  expect(await fixture.prepare()).toMatchObject({ files: 1, update: { kept: ['file'] } });
  expect(read('loose')).toBe('y\n');
  const status = copy.git('status', '--porcelain=v2');
  expect(status).toMatch(/^u UU .* file$/m);
  repo.git('commit', '-qam', 'on the host');
  await expect(fixture.prepare()).rejects.toThrow(/would be lost/);
  expect(copy.git('status', '--porcelain=v2')).toBe(status);
  await fixture.prepare({ overwrite: true });
  expect(viewOf(copy)).toEqual(viewOf(repo));
  expect(existsSync(join(copy.path, '.git/MERGE_HEAD'))).toBe(false);
});

test('what the guest staged is not unstaged by an update that leaves the host’s index as it was, nor lost by another', async () => {
  const { repo, copy } = fixture;
  repo.write('a', 'a\n');
  repo.write('b', 'b\n');
  repo.commit('first');
  await fixture.prepare();
  copy.write('a', 'staged\n');
  copy.git('add', 'a');
  copy.write('a', 'a\n');
  repo.write('b', 'host\n');
  await fixture.prepare();
  expect(copy.git('show', ':a')).toBe('staged\n');
  expect(read('b')).toBe('host\n');
  repo.git('add', 'b');
  await expect(fixture.prepare()).rejects.toMatchObject({
    message: expect.stringMatching(/has staged changes that would be lost: "a"/) as string,
  });
  expect(copy.git('show', ':a')).toBe('staged\n');
  await fixture.prepare({ overwrite: true });
  expect(viewOf(copy)).toEqual(viewOf(repo));
});

test('what the guest wrote into its configuration and its excludes stays', async () => {
  const { repo, copy } = fixture;
  repo.write('a', 'a\n');
  repo.commit('first');
  repo.git('config', 'user.name', 'Host');
  repo.write('.git/info/exclude', 'one\n');
  await fixture.prepare();
  repo.git('config', 'user.name', 'Other');
  repo.write('.git/info/exclude', 'two\n');
  await fixture.prepare();
  expect([copy.git('config', 'user.name'), read('.git/info/exclude')]).toEqual(['Other\n', 'two\n']);
  copy.git('config', 'user.name', 'Guest');
  copy.write('.git/info/exclude', 'guest\n');
  repo.git('config', 'user.name', 'Third');
  repo.write('.git/info/exclude', 'three\n');
  repo.write('a', 'b\n');
  await fixture.prepare();
  expect([copy.git('config', 'user.name'), read('.git/info/exclude')]).toEqual(['Guest\n', 'guest\n']);
  expect(read('a')).toBe('b\n');
});

test('permissions that git does not keep are nobody’s conflict', async () => {
  const { repo, copy } = fixture;
  repo.write('a', 'a\n');
  repo.write('b', 'b\n');
  repo.commit('first');
  await fixture.prepare();
  copy.write('a', 'guest\n');
  for (const name of ['a', 'b']) chmodSync(join(repo.path, name), 0o600);
  expect(await fixture.prepare()).toMatchObject({ files: 0, update: { kept: ['a'], conflicts: [] } });
  expect(statSync(join(copy.path, 'b')).mode & 0o777).toBe(0o600);
  expect(read('a')).toBe('guest\n');
});
