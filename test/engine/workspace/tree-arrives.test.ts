import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createRepo, openRepo } from '../../support/git-repo.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

let fixture: Fixture;
beforeEach(() => {
  fixture = createFixture();
});
afterEach(() => fixture.remove());

/** What `git status` says, without the header lines: branch, index and working tree against each other. */
const status = (repo: { git(...args: string[]): string }): string =>
  repo.git('status', '--porcelain=v2', '-z', '--branch', '--untracked-files=no');

test('the guest shows the same status as the host', async () => {
  const { repo, copy } = fixture;
  for (const name of [
    'staged',
    'unstaged',
    'both',
    'deleted',
    'staged-deleted',
    'renamed',
    'mode',
    'same',
    'typed',
  ]) {
    repo.write(`dir/${name}`, `${name}\n`);
  }
  repo.commit('first');
  repo.write('dir/staged', 'staged 2\n');
  repo.write('dir/both', 'both 2\n');
  repo.git('add', 'dir/staged', 'dir/both');
  repo.write('dir/both', 'both 3\n');
  repo.write('dir/unstaged', 'unstaged 2\n');
  repo.write('dir/added', 'added\n');
  repo.git('add', 'dir/added');
  repo.write('dir/intended', 'intended\n');
  repo.git('add', '-N', 'dir/intended');
  rmSync(join(repo.path, 'dir/deleted'));
  repo.git('rm', '-q', 'dir/staged-deleted');
  repo.git('mv', 'dir/renamed', 'dir/new-name');
  chmodSync(join(repo.path, 'dir/mode'), 0o755);
  rmSync(join(repo.path, 'dir/typed'));
  symlinkSync('same', join(repo.path, 'dir/typed'));
  repo.write('left-behind', 'secret\n');

  const before = repo.snapshot();
  const result = await fixture.prepare();
  expect(repo.snapshot()).toEqual(before);

  expect(status(copy)).toBe(status(repo));
  expect(copy.git('diff')).toBe(repo.git('diff'));
  expect(copy.git('diff', '--cached')).toBe(repo.git('diff', '--cached'));
  expect(copy.git('log', '--format=%H %s')).toBe(repo.git('log', '--format=%H %s'));
  copy.git('fsck', '--strict');
  expect(existsSync(join(fixture.guestPath, 'left-behind'))).toBe(false);
  expect(result).toMatchObject({
    vm: 'web',
    branch: 'main',
    files: 9,
    untracked: 1,
    created: true,
    warnings: [],
  });
  expect((await fixture.export()).files).toEqual([]);
});

test('names that are not UTF-8, long, or hold line breaks arrive as they are, and come back', async () => {
  const { repo, copy } = fixture;
  const latin = Buffer.concat([Buffer.from(`${repo.path}/caf`), Buffer.from([0xe9])]);
  writeFileSync(latin, 'latin\n');
  repo.write('line\nbreak "quoted"\t', 'line\n');
  repo.write(`${'long/'.repeat(30)}${'name'.repeat(40)}`, 'long\n');
  repo.write('größe 🎉', 'utf8\n');
  repo.commit('names');
  writeFileSync(latin, 'latin 2\n');
  await fixture.prepare();
  expect(status(copy)).toBe(status(repo));
  expect(copy.git('ls-files', '-z')).toBe(repo.git('ls-files', '-z'));

  const guestLatin = Buffer.concat([Buffer.from(`${copy.path}/caf`), Buffer.from([0xe9])]);
  writeFileSync(guestLatin, 'latin 3\n');
  copy.write('line\nbreak "quoted"\t', 'line 2\n');
  const { files } = await fixture.exportAndApply();
  expect(files.map((file) => file.path)).toEqual(['"caf\\351"', 'line\nbreak "quoted"\t']);
  expect(readFileSync(latin, 'utf8')).toBe('latin 3\n');
  expect(readFileSync(join(repo.path, 'line\nbreak "quoted"\t'), 'utf8')).toBe('line 2\n');
});

test('modes, times, symlinks and binary content survive', async () => {
  const { repo, copy } = fixture;
  repo.write('run.sh', '#!/bin/sh\n', 0o755);
  repo.write('binary', Buffer.from([0, 1, 2, 255, 254]));
  repo.write('big', Buffer.alloc(700_000, 'x'));
  symlinkSync('../outside', join(repo.path, 'outside'));
  symlinkSync(`/${'far/'.repeat(40)}`, join(repo.path, 'far'));
  repo.commit('files');
  await fixture.prepare();
  expect(lstatSync(join(copy.path, 'run.sh')).mode & 0o777).toBe(0o755);
  expect(Math.floor(lstatSync(join(copy.path, 'run.sh')).mtimeMs / 1000)).toBe(
    Math.floor(lstatSync(join(repo.path, 'run.sh')).mtimeMs / 1000),
  );
  expect(readFileSync(join(copy.path, 'binary'))).toEqual(Buffer.from([0, 1, 2, 255, 254]));
  expect(readFileSync(join(copy.path, 'big')).length).toBe(700_000);
  expect(readlinkSync(join(copy.path, 'outside'))).toBe('../outside');
  expect(readlinkSync(join(copy.path, 'far'))).toBe(`/${'far/'.repeat(40)}`);
  expect(status(copy)).toBe(status(repo));
});

test('a file behind a symlink that replaced its directory does not travel', async () => {
  const { repo, copy, directory } = fixture;
  repo.write('dir/passwd', 'mine\n');
  repo.commit('first');
  mkdirSync(join(directory, 'elsewhere'));
  writeFileSync(join(directory, 'elsewhere/passwd'), 'not in this tree\n');
  rmSync(join(repo.path, 'dir'), { recursive: true });
  symlinkSync(join(directory, 'elsewhere'), join(repo.path, 'dir'));
  await fixture.prepare();
  expect(existsSync(join(copy.path, 'dir'))).toBe(false);
  expect(status(copy)).toBe(status(repo));
});

test('an unborn branch travels with what is staged', async () => {
  const { repo, copy } = fixture;
  repo.write('new', 'new\n');
  repo.git('add', 'new');
  const result = await fixture.prepare();
  expect(result).toMatchObject({ branch: 'main', files: 1 });
  expect(result.head).toBeUndefined();
  expect(status(copy)).toBe(status(repo));
  copy.git('commit', '-q', '-m', 'first');
  expect((await fixture.export()).files).toEqual([]);
});

test('an empty repository travels, and files made in the guest come back', async () => {
  const { repo, copy } = fixture;
  await fixture.prepare();
  expect(copy.git('status', '--porcelain=v2', '--branch')).toBe(
    repo.git('status', '--porcelain=v2', '--branch'),
  );
  copy.write('made', 'in the guest\n');
  await fixture.exportAndApply();
  expect(readFileSync(join(repo.path, 'made'), 'utf8')).toBe('in the guest\n');
});

test('a detached HEAD stays detached', async () => {
  const { repo, copy } = fixture;
  repo.write('a', '1\n');
  const first = repo.commit('first');
  repo.write('a', '2\n');
  repo.commit('second');
  repo.git('checkout', '-q', first);
  const result = await fixture.prepare();
  expect(result).toMatchObject({ head: first });
  expect(result.branch).toBeUndefined();
  expect(status(copy)).toBe(status(repo));
});

test('of a long history the last ten commits travel, and git finds nothing missing', async () => {
  const { repo, copy } = fixture;
  for (let count = 1; count <= 14; count++) {
    repo.write('count', `${count}\n`);
    repo.commit(`commit ${count}`);
  }
  await fixture.prepare();
  expect(copy.git('log', '--format=%s').trim().split('\n')).toEqual(
    Array.from({ length: 10 }, (_, at) => `commit ${14 - at}`),
  );
  expect(copy.git('rev-parse', '--is-shallow-repository').trim()).toBe('true');
  copy.git('fsck', '--strict');
});

test('a history with merges is cut where all parents of what travels are there', async () => {
  const { repo, copy } = fixture;
  repo.write('base', 'base\n');
  repo.commit('base');
  for (let count = 1; count <= 6; count++) {
    repo.git('checkout', '-q', '-b', `side-${count}`);
    repo.write(`side-${count}`, 'side\n');
    repo.commit(`side ${count}`);
    repo.git('checkout', '-q', 'main');
    repo.write(`main-${count}`, 'main\n');
    repo.commit(`main ${count}`);
    repo.git('merge', '-q', '--no-ff', '-m', `merge ${count}`, `side-${count}`);
  }
  await fixture.prepare();
  const commits = copy.git('log', '--format=%s').trim().split('\n');
  expect(commits.length).toBeLessThanOrEqual(10);
  expect(commits).toContain('merge 5');
  copy.git('fsck', '--strict');
  expect(status(copy)).toBe(status(repo));
});

test('a worktree and a path below it send the worktree', async () => {
  const { repo, copy, directory } = fixture;
  repo.write('sub/dir/file', '1\n');
  repo.commit('first');
  const path = join(directory, 'worktree');
  repo.git('worktree', 'add', '-q', '-b', 'side', path);
  const worktree = openRepo(path);
  worktree.write('sub/dir/file', '2\n');
  worktree.git('add', '-A');
  const result = await fixture.prepare({ path: join(path, 'sub/dir') });
  expect(result).toMatchObject({ hostPath: path, branch: 'side' });
  expect(status(copy)).toBe(status(worktree));
  copy.git('fsck', '--strict');
});

test('a host repository that is shallow itself travels', async () => {
  const { repo, directory } = fixture;
  for (const count of [1, 2, 3]) {
    repo.write('count', `${count}\n`);
    repo.commit(`commit ${count}`);
  }
  const path = join(directory, 'shallow');
  repo.git('clone', '-q', '--depth', '2', `file://${repo.path}`, path);
  await fixture.prepare({ path });
  expect(fixture.copy.git('log', '--format=%s').trim()).toBe('commit 3\ncommit 2');
  fixture.copy.git('fsck', '--strict');
});

test('a conflict travels with all its sides', async () => {
  const { repo, copy } = fixture;
  repo.write('a', 'base\n');
  repo.commit('base');
  repo.git('checkout', '-q', '-b', 'side');
  repo.write('a', 'side\n');
  repo.commit('side');
  repo.git('checkout', '-q', 'main');
  repo.write('a', 'main\n');
  repo.commit('main');
  expect(() => repo.git('merge', 'side')).toThrow();
  await fixture.prepare();
  expect(status(copy)).toBe(status(repo));
  expect(copy.git('ls-files', '-s')).toBe(repo.git('ls-files', '-s'));
  copy.git('fsck');
  expect((await fixture.export()).files).toEqual([]);
});

test('files of a sparse checkout stay out, and are not deleted by the patch', async () => {
  const { repo, copy } = fixture;
  repo.write('in/a', 'a\n');
  repo.write('out/b', 'b\n');
  repo.commit('first');
  repo.git('sparse-checkout', 'set', 'in');
  await fixture.prepare();
  expect(status(copy)).toBe(status(repo));
  copy.write('in/a', 'a 2\n');
  const { files } = await fixture.exportAndApply();
  expect(files.map((file) => file.path)).toEqual(['in/a']);
});

test('a change that git was told to overlook travels and is not reported', async () => {
  const { repo, copy } = fixture;
  repo.write('a', 'a\n');
  repo.commit('first');
  repo.git('update-index', '--assume-unchanged', 'a');
  repo.write('a', 'mine\n');
  await fixture.prepare();
  expect(readFileSync(join(copy.path, 'a'), 'utf8')).toBe('mine\n');
  expect(status(copy)).toBe(status(repo));
  expect((await fixture.export()).files).toEqual([]);
});

test('a change made within the second of its `git add` is seen', async () => {
  const { repo, copy } = fixture;
  repo.write('a', '1111\n');
  repo.git('add', 'a');
  repo.write('a', '2222\n');
  await fixture.prepare();
  expect(copy.git('show', `${(await fixture.export()).baseTree}:a`)).toBe('2222\n');
  expect((await fixture.export()).files).toEqual([]);
});

test('line ends travel as they are, and a patch fits them', async () => {
  const { repo, copy } = fixture;
  repo.git('config', 'core.autocrlf', 'true');
  repo.write('.gitattributes', '*.win text eol=crlf\n');
  repo.write('a.win', 'one\r\ntwo\r\n');
  repo.write('b.txt', 'one\r\ntwo\r\n');
  repo.commit('first');
  await fixture.prepare();
  expect(readFileSync(join(copy.path, 'b.txt'), 'latin1')).toBe('one\r\ntwo\r\n');
  expect(status(copy)).toBe(status(repo));
  copy.write('a.win', 'one\r\nthree\r\n');
  copy.write('b.txt', 'one\r\nthree\r\n');
  await fixture.exportAndApply();
  expect(readFileSync(join(repo.path, 'b.txt'), 'latin1')).toBe('one\r\nthree\r\n');
});

test('untracked files travel only when asked for, ignored ones never', async () => {
  const { repo, copy } = fixture;
  repo.write('.gitignore', '.env\n');
  repo.write('a', 'a\n');
  repo.commit('first');
  repo.write('.env', 'SECRET=1\n');
  repo.write('notes/todo', 'todo\n');
  repo.write('nested/.git/HEAD', 'ref: refs/heads/main\n');
  repo.write('nested/.git/config', '');
  mkdirSync(join(repo.path, 'nested/.git/objects'));
  mkdirSync(join(repo.path, 'nested/.git/refs'));
  const result = await fixture.prepare({ includeUntracked: true });
  expect(readFileSync(join(copy.path, 'notes/todo'), 'utf8')).toBe('todo\n');
  expect(existsSync(join(copy.path, '.env'))).toBe(false);
  expect(existsSync(join(copy.path, 'nested'))).toBe(false);
  expect(result).toMatchObject({ files: 3, untracked: 1, ignored: 1 });
  expect(result.warnings).toEqual(['"nested/" is a repository of its own and stays behind']);
  expect((await fixture.export()).files).toEqual([]);
});

test('an untracked repository inside of the tree is one that stays behind, and is not looked into', async () => {
  const { repo, copy } = fixture;
  repo.write('a', 'a\n');
  repo.commit('first');
  const nested = createRepo(join(repo.path, 'nested'));
  for (const name of ['b', 'c']) nested.write(name, 'nested\n');
  nested.commit('nested');
  nested.write('d', 'untracked there\n');
  const result = await fixture.prepare();
  expect(result).toMatchObject({ files: 1, untracked: 1, ignored: 0, warnings: [] });
  expect(existsSync(join(copy.path, 'nested'))).toBe(false);
  expect((await fixture.export()).files).toEqual([]);
});

test('stashes stay behind, and git in the guest knows of none', async () => {
  const { repo, copy } = fixture;
  for (const name of ['a', 'b']) repo.write(name, `${name}\n`);
  repo.commit('first');
  repo.write('a', 'stashed\n');
  repo.write('b', 'stashed and staged\n');
  repo.git('add', 'b');
  repo.git('stash', 'push', '-q');
  repo.write('a', 'loose\n');
  const stash = repo.git('rev-parse', 'refs/stash').trim();
  expect(await fixture.prepare()).toMatchObject({ leftBehind: { stashes: 1 } });
  expect(copy.git('stash', 'list')).toBe('');
  expect(copy.git('for-each-ref', 'refs/stash')).toBe('');
  expect(existsSync(join(copy.path, '.git/logs/refs/stash'))).toBe(false);
  expect(() => copy.git('cat-file', '-e', stash)).toThrow();
  expect(status(copy)).toBe(status(repo));
  expect((await fixture.export()).files).toEqual([]);
  expect(repo.git('rev-parse', 'refs/stash').trim()).toBe(stash);
});

test('origin travels without credentials, the identity with the repository', async () => {
  const { repo, copy } = fixture;
  repo.git('remote', 'add', 'origin', 'https://me:token@example.com/team/project.git?key=1');
  repo.write('a', 'a\n');
  repo.commit('first');
  await fixture.prepare();
  expect(copy.git('config', 'remote.origin.url').trim()).toBe('https://example.com/team/project.git');
  expect(copy.git('config', 'user.name').trim()).toBe('Ada "the" Tester');
  copy.write('a', 'b\n');
  copy.git('commit', '-qam', 'in the guest');
});

test('a SHA-256 repository travels', async () => {
  const path = join(fixture.directory, 'sha256');
  mkdirSync(path);
  openRepo(path).git('init', '-q', '-b', 'main', '--object-format=sha256');
  const repo = openRepo(path);
  repo.write('a', 'a\n');
  repo.git('add', 'a');
  repo.git('-c', 'user.name=a', '-c', 'user.email=a@a', 'commit', '-qm', 'first');
  await fixture.prepare({ path });
  expect(status(fixture.copy)).toBe(status(repo));
});

test('git in the guest need not read files to see that they are as they were sent', async () => {
  const { repo, copy } = fixture;
  repo.write('same', 'same\n');
  repo.write('dirty', 'dirty\n');
  repo.commit('first');
  repo.write('dirty', 'changed\n');
  // As after a copy of the whole directory: what git knows of the file's inode is no longer true.
  repo.write('copied', 'same\n');
  renameSync(join(repo.path, 'copied'), join(repo.path, 'same'));
  await fixture.prepare();
  expect(copy.git('diff-files', '--name-only')).toBe('dirty\n');
});

test('what git was told not to look at on the host is looked at in the guest', async () => {
  const { repo, copy } = fixture;
  for (const name of ['assumed', 'skipped', 'plain']) repo.write(name, `${name}\n`);
  repo.commit('first');
  repo.git('update-index', '--assume-unchanged', 'assumed');
  repo.git('update-index', '--skip-worktree', 'skipped');
  await fixture.prepare();
  expect(copy.git('ls-files', '-v')).toBe(repo.git('ls-files', '-v'));
  expect((await fixture.export()).files).toEqual([]);
  for (const name of ['assumed', 'skipped', 'plain']) copy.write(name, 'changed\n');
  const names = async () => (await fixture.export()).files.map((file) => file.path);
  expect(await names()).toEqual(['assumed', 'plain', 'skipped']);
  // Also once it was looked at.
  copy.write('assumed', 'assumed\n');
  expect(await names()).toEqual(['plain', 'skipped']);
});
