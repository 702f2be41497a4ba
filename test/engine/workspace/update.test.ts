import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { listWorkspaces } from '../../../src/state/workspaces.ts';
import { vmPaths } from '../../../src/state/layout.ts';
import { makeTempDirectory, viewOf } from '../../support/git-repo.ts';
import { mortalPrograms } from '../../support/mortal-programs.ts';
import { createFixture, vmId, type Fixture } from './workspace-fixture.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

let fixture: Fixture;
beforeEach(() => {
  fixture = createFixture();
});
afterEach(() => fixture.remove());

const read = (path: string): string => readFileSync(join(fixture.copy.path, path), 'utf8');

test('a second prepare sends what changed and removes what vanished; the rest is not touched', async () => {
  const { repo, copy } = fixture;
  for (let index = 0; index < 30; index++) repo.write(`dir/${index}`, `${index}\n`);
  repo.write('gone/deep/file', 'gone\n');
  repo.write('run', '#!/bin/sh\n');
  repo.write('.gitignore', 'target/\n');
  repo.commit('first');
  expect((await fixture.prepare()).update).toBeUndefined();
  copy.write('target/built', 'built\n');
  const before = statSync(join(copy.path, 'dir/1'));
  const staged = copy.git('ls-files', '-s');

  repo.write('dir/0', 'changed\n');
  repo.write('new/file', 'new\n');
  repo.git('add', 'new/file');
  rmSync(join(repo.path, 'gone'), { recursive: true });
  chmodSync(join(repo.path, 'run'), 0o755);
  utimesSync(join(repo.path, 'dir/1'), 1, 1);
  const result = await fixture.prepare();
  expect(result).toMatchObject({ files: 2, update: { removed: 1, kept: [], conflicts: [] } });
  expect(viewOf(copy)).toEqual(viewOf(repo));
  expect(copy.git('ls-files', '-s')).not.toBe(staged);
  expect(existsSync(join(copy.path, 'gone'))).toBe(false);
  expect(statSync(join(copy.path, 'run')).mode & 0o777).toBe(0o755);
  expect(read('target/built')).toBe('built\n');
  const after = statSync(join(copy.path, 'dir/1'));
  expect([after.ino, after.mtimeMs, after.ctimeMs]).toEqual([before.ino, before.mtimeMs, before.ctimeMs]);
  expect((await fixture.export()).files).toEqual([]);
  copy.git('fsck', '--strict');
  // What makes programs in the guest build again is that it changed there, not when it did on the host.
  expect(statSync(join(copy.path, 'dir/0')).mtimeMs).toBeGreaterThan(Date.now() - 600_000);

  const third = await fixture.prepare();
  expect(third).toMatchObject({ files: 0, update: { removed: 0 } });
  expect(
    readdirSync(join(copy.path, '.git'))
      .filter((name) => name.startsWith('banger-'))
      .sort(),
  ).toEqual(['banger-known-index', 'banger-quiet', 'banger-sent']);
});

test('commits, branches and all that is staged follow', async () => {
  const { repo, copy } = fixture;
  for (let count = 0; count < 12; count++) {
    repo.write('file', `${count}\n`);
    repo.commit(`commit ${count}`);
  }
  await fixture.prepare();
  const commits = copy.git('rev-list', '--count', 'HEAD').trim();
  repo.write('file', 'more\n');
  repo.commit('more');
  await fixture.prepare();
  expect(viewOf(copy)).toEqual(viewOf(repo));
  expect(copy.git('rev-list', '--count', 'HEAD').trim()).toBe(String(Number(commits) + 1));

  repo.git('switch', '-q', '-c', 'other', 'HEAD~11');
  repo.write('other/file', 'other\n');
  repo.commit('on the other');
  repo.write('file', 'staged\n');
  repo.git('add', 'file');
  repo.write('file', 'loose\n');
  await fixture.prepare();
  expect(viewOf(copy)).toEqual(viewOf(repo));
  expect(copy.git('branch', '--show-current')).toBe('other\n');
  copy.git('fsck', '--strict');

  repo.git('checkout', '-q', '-f', '--detach', 'HEAD~1');
  repo.write('to be', 'added\n');
  repo.git('add', '--intent-to-add', 'to be');
  await fixture.prepare();
  expect(viewOf(copy)).toEqual(viewOf(repo));
  copy.git('fsck', '--strict');
  expect((await fixture.export()).files).toEqual([]);
});

test('the whole history comes when it is asked for, also later', async () => {
  const { repo, copy } = fixture;
  const count = (): string => copy.git('rev-list', '--count', 'HEAD').trim();
  for (let number = 0; number < 15; number++) {
    repo.write('file', `${number}\n`);
    repo.commit(`commit ${number}`);
  }
  await fixture.prepare();
  expect(count()).toBe('10');
  await fixture.prepare({ fullHistory: true });
  expect(count()).toBe('15');
  expect(copy.git('rev-parse', '--is-shallow-repository')).toBe('false\n');
  repo.write('file', 'more\n');
  repo.commit('more');
  await fixture.prepare({ fullHistory: true });
  expect(count()).toBe('16');
  copy.git('fsck', '--strict');
});

test('names that git quotes, files in the way of directories and the other way round', async () => {
  const { repo, copy } = fixture;
  repo.write('was a file', 'x\n');
  repo.write('was a directory/file', 'x\n');
  repo.write("it's\n-odd", 'x\n');
  repo.write('-dash', 'x\n');
  repo.write('link', 'x\n');
  repo.write('.gitignore', 'ignored\n');
  repo.commit('first');
  await fixture.prepare();
  mkdirSync(join(copy.path, 'ignored'));
  for (const name of ['was a file', 'was a directory', '-dash', 'link']) {
    rmSync(join(repo.path, name), { recursive: true });
  }
  repo.write('was a file/now/below', 'y\n');
  repo.write('was a directory', 'y\n');
  repo.write("it's\n-odd", 'y\n');
  repo.write('-other', 'y\n');
  symlinkSync('nowhere', join(repo.path, 'link'));
  repo.git('add', '-A');
  await fixture.prepare();
  expect(viewOf(copy)).toEqual(viewOf(repo));
  expect(read("it's\n-odd")).toBe('y\n');
  expect((await fixture.export()).files).toEqual([]);
});

test('what the guest changed is not replaced: it stops where both did, and goes on where one did', async () => {
  const { repo, copy } = fixture;
  for (const name of ['both', 'theirs', 'mine', 'same']) repo.write(name, `${name}\n`);
  repo.commit('first');
  await fixture.prepare();
  copy.write('both', 'guest\n');
  copy.write('theirs', 'guest\n');
  copy.write('made', 'guest\n');
  for (const each of [copy, repo]) each.write('same', 'the same\n');
  repo.write('mine', 'host\n');
  repo.write('both', 'host\n');
  await expect(fixture.prepare()).rejects.toMatchObject({
    code: 'invalid_state',
    message: `"${fixture.guestPath}" in VM "web" has changes that would be lost: "both"`,
  });
  expect([read('both'), read('mine')]).toEqual(['guest\n', 'mine\n']);

  repo.write('both', 'both\n');
  const result = await fixture.prepare();
  expect(result).toMatchObject({ files: 1, update: { kept: ['both', 'made', 'theirs'] } });
  expect([read('theirs'), read('mine')]).toEqual(['guest\n', 'host\n']);
  expect((await fixture.export()).files.map((file) => file.path)).toEqual(['both', 'made', 'theirs']);

  copy.write('.gitignore', 'kept\n');
  copy.write('kept', 'ignored\n');
  await fixture.prepare({ overwrite: true });
  expect(['both', 'theirs', 'mine', 'same'].map(read)).toEqual([
    'both\n',
    'theirs\n',
    'host\n',
    'the same\n',
  ]);
  expect(existsSync(join(copy.path, 'made'))).toBe(false);
  expect(read('kept')).toBe('ignored\n');
});

test('commits of the guest are in nobody’s way until the host moves its branch', async () => {
  const { repo, copy } = fixture;
  repo.write('a', 'a\n');
  repo.write('b', 'b\n');
  repo.commit('first');
  await fixture.prepare();
  copy.write('a', 'guest\n');
  copy.git('commit', '-qam', 'in the guest');
  const commit = copy.git('rev-parse', 'HEAD');
  repo.write('b', 'host\n');
  await fixture.prepare();
  expect([read('a'), read('b')]).toEqual(['guest\n', 'host\n']);
  expect(copy.git('rev-parse', 'HEAD')).toBe(commit);
  repo.commit('on the host');
  await expect(fixture.prepare()).rejects.toMatchObject({
    message: `"${fixture.guestPath}" in VM "web" has commits that would be lost`,
  });
  await fixture.prepare({ overwrite: true });
  expect(viewOf(copy)).toEqual(viewOf(repo));
  expect(copy.git('log', '-g', '--format=%H')).toContain(commit.trim());
});

test('without a manifest the guest is asked', async () => {
  const { repo, copy } = fixture;
  for (const name of ['a', 'b', 'c']) repo.write(name, `${name}\n`);
  repo.commit('first');
  await fixture.prepare();
  const { manifests } = vmPaths(fixture.context.layout, vmId);
  expect(readdirSync(manifests)).toHaveLength(1);
  rmSync(manifests, { recursive: true });
  repo.write('a', 'changed\n');
  rmSync(join(repo.path, 'b'));
  expect(await fixture.prepare()).toMatchObject({ files: 1, update: { removed: 1 } });
  expect(viewOf(copy)).toEqual(viewOf(repo));
  expect(readdirSync(manifests)).toHaveLength(1);
  for (const name of readdirSync(manifests)) writeFileSync(join(manifests, name), 'damaged');
  repo.write('c', 'changed\n');
  expect(await fixture.prepare()).toMatchObject({ files: 1 });
  expect(listWorkspaces(fixture.context.db, vmId)).toHaveLength(1);
});

test('a file whose line ends alone changed is sent', async () => {
  const { repo } = fixture;
  repo.git('config', 'core.autocrlf', 'true');
  repo.write('a', 'one\r\ntwo\n');
  repo.commit('first');
  await fixture.prepare();
  repo.write('a', 'one\ntwo\r\n');
  await fixture.prepare();
  expect(read('a')).toBe('one\ntwo\r\n');
});

test('a read-only workspace cannot be written to by its files’ modes, and nothing of it comes back', async () => {
  const { repo, copy } = fixture;
  repo.write('file', 'text\n');
  repo.write('run', '#!/bin/sh\n', 0o755);
  repo.commit('first');
  const modes = () => ['file', 'run'].map((name) => statSync(join(copy.path, name)).mode & 0o777);
  await fixture.prepare({ readonly: true });
  expect(modes()).toEqual([0o444, 0o555]);
  expect(viewOf(copy)).toEqual(viewOf(repo));
  // Root in the guest writes all the same.
  rmSync(join(copy.path, 'file'));
  copy.write('file', 'guest\n');
  const before = viewOf(repo);
  for (const comeBack of [fixture.export, fixture.apply])
    await expect(comeBack()).rejects.toMatchObject({ code: 'invalid_state' });
  expect(viewOf(repo)).toEqual(before);
  copy.write('file', 'text\n', 0o444);
  expect(await fixture.prepare()).toMatchObject({ files: 0 });
  expect(modes()).toEqual([0o644, 0o755]);
  expect((await fixture.export()).files).toEqual([]);
});

test('an update that is killed at any point is the old tree, or finished by whoever comes next', async () => {
  fixture.remove();
  const own = makeTempDirectory();
  const programs = mortalPrograms(own.path);
  let isUpdating = false;
  fixture = createFixture({
    env: { PATH: programs.path },
    onRun: (argv) => {
      // What looks at the guest before changes nothing there.
      if (isUpdating && argv.some((word) => word.includes('banger-next.part'))) {
        isUpdating = false;
        programs.killAt(turn);
      }
    },
  });
  let turn = 0;
  const { repo, copy } = fixture;
  const write = (version: number): void => {
    rmSync(join(repo.path, 'odd'), { recursive: true, force: true });
    rmSync(join(repo.path, 'even'), { recursive: true, force: true });
    repo.write(version % 2 ? 'odd/new/file' : 'even/new/file', `${version}\n`);
    repo.write('file', `${version}\n`);
    repo.write('run', '#!/bin/sh\n', version % 2 ? 0o755 : 0o644);
    repo.git('add', '-A');
    repo.commit(`version ${version}`);
  };
  write(0);
  await fixture.prepare();
  const outcomes = new Set<string>();
  const killed: string[] = [];
  for (let version = 1, before = viewOf(copy); ; version++, turn++) {
    write(version);
    const wanted = viewOf(repo);
    isUpdating = true;
    const ended = await fixture.prepare().then(
      () => 'done',
      () => 'killed',
    );
    const ran = programs.ran();
    programs.killAt(-1);
    if (ran.length <= turn) {
      expect(ended).toBe('done');
      // Each program of a whole update was the one, from the first to the last.
      expect(killed).toEqual(ran);
      break;
    }
    killed.push(ran[turn]!);
    expect((await fixture.export()).files).toEqual([]);
    const found = viewOf(copy);
    const isNew = found.join() === wanted.join();
    if (!isNew) expect(found).toEqual(before);
    outcomes.add(`${ended}, ${isNew ? 'new' : 'old'}`);
    await fixture.prepare();
    before = viewOf(copy);
    expect(before).toEqual(wanted);
  }
  expect(turn).toBeGreaterThan(8);
  expect(outcomes).toContain('killed, old');
  expect(outcomes).toContain('killed, new');
  expect(
    readdirSync(join(copy.path, '.git'))
      .filter((name) => name.startsWith('banger-'))
      .sort(),
  ).toEqual(['banger-known-index', 'banger-quiet', 'banger-sent']);
  own.remove();
}, 600_000);
