import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openRepo, snapshot, type GitRepo } from '../../support/git-repo.ts';
import { files, says } from './git-says.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

let fixture: Fixture;
beforeEach(() => {
  fixture = createFixture();
});
afterEach(() => fixture.remove());

/** Makes a state of a repository; returns another tree to send when it is not the fixture's own. */
type Scene = (repo: GitRepo, fixture: Fixture) => GitRepo | void;

const scenes: Record<string, Scene> = {
  'an empty repository': () => undefined,

  'an unborn branch with files staged and changed since'(repo) {
    repo.write('new', 'new\n');
    repo.write('intended', 'later\n');
    repo.git('add', 'new');
    repo.git('add', '-N', 'intended');
    repo.write('new', 'newer\n');
  },

  'every kind of change, name and file, on a detached HEAD'(repo) {
    const latin = Buffer.concat([Buffer.from(`${repo.path}/caf`), Buffer.from([0xe9])]);
    const odd = ['line\nbreak\t"quoted"', ' blank ', '-dash', ':(literal)colon', 'star*[x]'];
    const cases = ['Readme', 'README', 'case/file', 'Case/file'];
    const kinds = 'staged unstaged both deleted gone renamed mode mode-staged same typed untracked'.split(
      ' ',
    );
    const links = ['was-dir/file', 'was-file', 'was-linked/file'];
    const overlooked = ['assumed', 'skipped', 'skipped-gone', 'same-size', 'same-time'];
    repo.write('.git/info/attributes', '*.inf text eol=crlf\n');
    repo.write('.git/info/exclude', '*.log\n');
    for (const name of [...odd, ...cases, ...kinds, ...links, ...overlooked]) repo.write(name, 'text\n');
    repo.write('a.inf', 'one\r\n');
    writeFileSync(latin, 'latin\n');
    symlinkSync('../../outside', join(repo.path, 'outside'));
    symlinkSync('/etc/passwd', join(repo.path, 'absolute'));
    touch(repo, 'same-time', '2020-01-01');
    const first = repo.commit('first');
    repo.git('commit', '-q', '--allow-empty', '-m', 'second');
    repo.git('checkout', '-q', first);
    repo.git('status');

    for (const name of ['staged', 'both', 'added', 'same-size']) repo.write(name, '2222\n');
    repo.git('add', '-A');
    for (const name of ['unstaged', 'both', 'same-size', 'same-time', odd[0]!]) repo.write(name, '3333\n');
    touch(repo, 'same-time', '2020-01-01');
    writeFileSync(latin, 'latin 2\n');
    repo.write('a.inf', 'two\r\n');
    rmSync(join(repo.path, 'deleted'));
    repo.git('rm', '-q', 'gone');
    repo.git('rm', '-q', '--cached', 'untracked');
    repo.git('mv', 'renamed', 'new-name');
    repo.git('mv', 'Readme', 'readme');
    chmodSync(join(repo.path, 'mode'), 0o755);
    repo.git('update-index', '--chmod=+x', 'mode-staged');
    for (const name of ['typed', 'was-dir', 'was-file', 'was-linked', 'absolute']) {
      rmSync(join(repo.path, name), { recursive: true });
    }
    for (const name of ['typed', 'was-linked', 'absolute']) symlinkSync('/etc', join(repo.path, name));
    repo.write('was-dir', 'a file now\n');
    repo.write('was-file/inside', 'a directory now\n');
    for (const name of ['intended', 'intended-gone']) repo.write(name, 'later\n');
    repo.git('add', '-N', 'intended', 'intended-gone');
    rmSync(join(repo.path, 'intended-gone'));
    repo.git('update-index', '--assume-unchanged', 'assumed');
    repo.git('update-index', '--skip-worktree', 'skipped', 'skipped-gone');
    for (const name of ['assumed', 'skipped']) repo.write(name, 'mine\n');
    rmSync(join(repo.path, 'skipped-gone'));
  },

  'settings for line ends, modes and diffs, in a repository apart from its tree'(repo, { directory }) {
    repo.git('init', '-q', '--separate-git-dir', join(directory, 'apart.git'));
    for (const [name, value] of [
      ['core.autocrlf', 'true'],
      ['core.fileMode', 'false'],
      ['core.quotePath', 'false'],
      ['core.abbrev', '12'],
      ['diff.noprefix', 'true'],
      ['diff.context', '1'],
      ['diff.algorithm', 'histogram'],
      ['diff.ini.xfuncname', '^\\[.*\\]$'],
    ] as const) {
      repo.git('config', name, value);
    }
    repo.write(
      '.gitattributes',
      '*.win text eol=crlf\n*.bin -text\n*.u16 text working-tree-encoding=UTF-16LE\n*.id ident\n*.ini diff=ini\n',
    );
    repo.write('a.win', 'one\r\ntwo\r\n');
    repo.write('b.txt', 'one\r\ntwo\r\n');
    repo.write('mixed.txt', 'one\r\ntwo\n');
    repo.write('c.bin', 'one\r\n\0two\n');
    repo.write('d.u16', Buffer.from('text\r\n', 'utf16le'));
    repo.write('e.id', '$Id$\n');
    repo.write('größe.ini', `[one]\r\n${'x\r\n'.repeat(9)}a\r\n${'x\r\n'.repeat(9)}`);
    repo.commit('first');
    repo.write('b.txt', 'one\r\nthree\r\n');
    repo.write('d.u16', Buffer.from('texts\r\n', 'utf16le'));
    repo.write('größe.ini', `[one]\r\n${'x\r\n'.repeat(9)}b\r\n${'x\r\n'.repeat(9)}`);
    chmodSync(join(repo.path, 'a.win'), 0o755);
  },

  'line ends that git takes away when it adds'(repo) {
    for (const name of ['crlf', 'lf', 'mixed', 'kept'])
      repo.write(name, name === 'lf' ? 'a\n' : 'a\r\nb\r\n');
    repo.commit('with line ends as they are');
    repo.git('config', 'core.autocrlf', 'input');
    repo.write('.gitattributes', '*.bin -text\n*.win text eol=crlf\n');
    for (const name of ['new', 'a.bin', 'a.win']) repo.write(name, 'one\r\ntwo\r\n');
    repo.commit('with what the setting makes of them');
    repo.write('mixed', 'a\r\nb\n');
    repo.write('staged', 'one\r\n');
    repo.git('add', 'staged');
    repo.write('a.win', 'one\r\nthree\r\n');
  },

  'line ends and keywords that are all that changed'(repo) {
    repo.write(
      '.gitattributes',
      '[attr]win text eol=crlf\n*.win win\n*.lin text eol=lf\n*.id ident\n* text=auto\n',
    );
    for (const name of ['a.win', 'b.lin', 'c', 'staged']) repo.write(name, 'one\ntwo\n');
    repo.write('d.id', '$Id$\n');
    repo.write('same', 'same\n');
    repo.commit('first');
    repo.git('config', 'core.autocrlf', 'input');
    for (const name of ['b.lin', 'c', 'staged']) repo.write(name, 'one\r\ntwo\r\n');
    repo.git('add', 'staged');
    repo.write('a.win', 'one\r\ntwo\r\n');
    repo.write('d.id', '$Id: of another time $\n');
    touch(repo, 'same', '2020-01-01');
  },

  'an index that is split, and knows of a monitor and of untracked files'(repo) {
    for (const name of ['a', 'dir/b', 'dir/c']) repo.write(name, 'one\n');
    repo.commit('first');
    repo.write('.git/hooks/monitor', '#!/bin/sh\nprintf "token\\0/\\0"\n', 0o755);
    for (const [name, value] of [
      ['core.untrackedCache', 'true'],
      ['core.splitIndex', 'true'],
      ['core.fsmonitor', '.git/hooks/monitor'],
    ] as const) {
      repo.git('config', name, value);
    }
    repo.git('update-index', '--split-index', '--untracked-cache', '--fsmonitor', '--index-version', '4');
    repo.git('status');
    repo.write('dir/b', 'two\n');
    repo.git('status');
  },

  'a worktree with settings of its own, whose objects are elsewhere'(repo, { directory }) {
    repo.write('a', 'one\r\n');
    repo.commit('first');
    repo.git('clone', '-q', '--shared', repo.path, join(directory, 'shared'));
    const shared = openRepo(join(directory, 'shared'));
    shared.git('config', 'extensions.worktreeConfig', 'true');
    shared.git('worktree', 'add', '-q', join(directory, 'worktree'));
    const worktree = openRepo(join(directory, 'worktree'));
    for (const [name, value] of [
      ['core.autocrlf', 'true'],
      ['core.fileMode', 'false'],
      ['diff.suppressBlankEmpty', 'true'],
      ['status.displayCommentPrefix', 'true'],
      ['advice.statusHints', 'false'],
      ['core.bigFileThreshold', '100'],
    ] as const) {
      worktree.git('config', '--worktree', name, value);
    }
    worktree.write('a', 'two\r\n\r\n', 0o755);
    worktree.write('large', 'large\n'.repeat(20));
    worktree.git('add', 'large');
    return worktree;
  },

  'a merge with conflicts'(repo) {
    diverge(repo);
    expect(() => repo.git('merge', 'side')).toThrow();
  },

  'a row of cherry-picks that stopped'(repo) {
    diverge(repo);
    expect(() => repo.git('cherry-pick', 'side~', 'side', 'side~2')).toThrow();
  },

  'a revert with conflicts'(repo) {
    repo.write('a', '1\n');
    repo.commit('first');
    repo.write('a', '2\n');
    const second = repo.commit('second');
    repo.write('a', '3\n');
    repo.commit('third');
    expect(() => repo.git('revert', '--no-edit', second)).toThrow();
  },

  'a rebase that stopped'(repo) {
    diverge(repo);
    repo.write('more', 'more\n');
    repo.commit('more');
    expect(() => repo.git('rebase', 'side')).toThrow();
  },

  'a rebase by apply that stopped'(repo) {
    diverge(repo);
    expect(() => repo.git('rebase', '--apply', 'side')).toThrow();
  },

  'mails that do not apply'(repo, { directory }) {
    diverge(repo);
    const mail = join(directory, 'mail');
    writeFileSync(mail, repo.git('format-patch', '--stdout', '-1', 'side'));
    expect(() => repo.git('am', '-3', mail)).toThrow();
  },

  'a branch whose remote has another name'(repo, { directory }) {
    return withOrigin(repo, join(directory, 'clone'), 'up"stream');
  },

  'a branch that follows a branch of its own repository'(repo) {
    diverge(repo);
    repo.git('branch', '--set-upstream-to=side');
  },

  'a branch whose upstream is gone'(repo, { directory }) {
    const clone = withOrigin(repo, join(directory, 'clone'), 'origin');
    clone.git('update-ref', '-d', 'refs/remotes/origin/main');
    return clone;
  },

  'a worktree in the middle of a merge'(repo, { directory }) {
    diverge(repo);
    repo.git('worktree', 'add', '-q', '-b', 'third', join(directory, 'worktree'), 'main');
    const worktree = openRepo(join(directory, 'worktree'));
    expect(() => worktree.git('merge', 'side')).toThrow();
    return worktree;
  },

  'a sparse checkout with a sparse index'(repo) {
    for (const name of ['in/a', 'out/c', 'out/deep/d']) repo.write(name, `${name}\n`);
    repo.commit('first');
    repo.git('sparse-checkout', 'set', '--cone', '--sparse-index', 'in');
    repo.write('in/a', 'changed\n');
  },

  'a sparse checkout by patterns, with a file that is there all the same'(repo) {
    for (const name of ['in/a', 'out/c', 'out/d']) repo.write(name, `${name}\n`);
    repo.commit('first');
    repo.git('sparse-checkout', 'set', '--no-cone', '/in/');
    repo.write('out/c', 'here again\n');
  },

  'a sparse checkout of a worktree'(repo, { directory }) {
    for (const name of ['in/a', 'out/c']) repo.write(name, `${name}\n`);
    repo.commit('first');
    repo.git('worktree', 'add', '-q', '-b', 'side', join(directory, 'worktree'));
    const worktree = openRepo(join(directory, 'worktree'));
    worktree.git('sparse-checkout', 'set', 'in');
    return worktree;
  },

  'an index in the fourth version, and a split one'(repo, { directory }) {
    for (const name of ['dir/a', 'dir/b', 'dir/c']) repo.write(name, `${name}\n`);
    repo.commit('first');
    repo.write('dir/a', '2\n');
    repo.git('add', '-A');
    repo.git('update-index', '--index-version', '4');
    repo.git('worktree', 'add', '-q', join(directory, 'worktree'));
    const worktree = openRepo(join(directory, 'worktree'));
    worktree.git('update-index', '--split-index');
    worktree.write('dir/b', '2\n');
    worktree.git('add', '-A');
    worktree.write('dir/b', '3\n');
    return worktree;
  },

  'a SHA-256 repository'(_, { directory }) {
    const path = join(directory, 'sha256');
    mkdirSync(path);
    openRepo(path).git('init', '-q', '-b', 'main', '--object-format=sha256');
    const repo = openRepo(path);
    repo.git('config', 'user.name', 'a');
    repo.git('config', 'user.email', 'a@a');
    repo.write('a', 'a\n');
    repo.commit('first');
    repo.write('a', 'b\n');
    return repo;
  },

  'a shallow clone'(repo, { directory }) {
    for (const count of [1, 2, 3]) {
      repo.write('count', `${count}\n`);
      repo.commit(`commit ${count}`);
    }
    repo.git('clone', '-q', '--depth', '2', `file://${repo.path}`, join(directory, 'shallow'));
    const clone = openRepo(join(directory, 'shallow'));
    clone.write('count', '4\n');
    return clone;
  },

  'a clone without the content of old files'(repo, { directory }) {
    repo.git('config', 'uploadpack.allowFilter', 'true');
    for (const count of [1, 2, 3]) {
      repo.write('count', `${count}\n`);
      repo.write(`old-${count}`, `${count}\n`);
      repo.commit(`commit ${count}`);
    }
    repo.git('rm', '-q', 'old-1');
    repo.commit('without');
    const path = join(directory, 'partial');
    repo.git('clone', '-q', '--filter=blob:none', `file://${repo.path}`, path);
    const clone = openRepo(path);
    // Whoever needs more than there is now would fail.
    clone.git('config', 'remote.origin.url', 'file:///nonexistent');
    clone.write('count', '4\n');
    return clone;
  },
};

test.each(Object.entries(scenes))(
  'git says the same in the guest: %s',
  async (_, scene) => {
    const host = scene(fixture.repo, fixture) ?? fixture.repo;
    const before = snapshots(host);
    const result = await fixture.prepare({ path: host.path });
    expect(snapshots(host)).toEqual(before);
    expect(result.warnings).toEqual([]);

    expect(says(fixture.copy)).toEqual(says(host));
    expect(files(fixture.copy)).toEqual(files(host));
    fixture.copy.git('fsck', '--strict');
    expect((await fixture.export({ path: host.path })).files).toEqual([]);
  },
  120_000,
);

/** Everything git keeps about a tree, also where `.git` is a file that leads elsewhere. */
function snapshots(host: GitRepo): unknown {
  const directories = new Set(
    host.git('rev-parse', '--absolute-git-dir', '--git-common-dir').trim().split('\n'),
  );
  return [...directories].map((directory) => snapshot(resolve(host.path, directory)));
}

/** Two branches that changed one file each in its own way; `main` is checked out. */
function diverge(repo: GitRepo): void {
  repo.write('a', 'base\n');
  repo.write('same', 'same\n');
  repo.commit('base');
  repo.git('checkout', '-q', '-b', 'side');
  repo.write('side', 'side\n');
  repo.commit('side only');
  repo.write('a', 'side\n');
  repo.commit('side');
  repo.git('checkout', '-q', 'main');
  repo.write('a', 'main\n');
  repo.commit('main');
}

function withOrigin(repo: GitRepo, path: string, name: string): GitRepo {
  repo.write('a', '1\n');
  repo.commit('first');
  repo.git('clone', '-q', '-o', name, repo.path, path);
  repo.write('a', '2\n');
  repo.commit('theirs');
  const clone = openRepo(path);
  clone.git('config', 'user.name', 'a');
  clone.git('config', 'user.email', 'a@a');
  clone.git('fetch', '-q', name);
  for (const count of [1, 2]) {
    clone.write('mine', `${count}\n`);
    clone.commit(`mine ${count}`);
  }
  clone.write('mine', 'dirty\n');
  return clone;
}

function touch(repo: GitRepo, path: string, date: string): void {
  execFileSync('touch', ['-d', date, join(repo.path, path)]);
}
