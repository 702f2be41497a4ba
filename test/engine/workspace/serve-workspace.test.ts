import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { EngineStream } from '../../../src/engine/rpc/frame-stream.ts';
import { chooseWorkspace, serveWorkspace } from '../../../src/engine/workspace/serve-workspace.ts';
import { startChildStream } from '../../../src/host/child-stream.ts';
import { createFakeGuest } from '../../support/fake-guest.ts';
import { createRepo, gitEnvironment, type GitRepo } from '../../support/git-repo.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

// Many programs, one after the other.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

let fixture: Fixture;
beforeEach(async () => {
  fixture = createFixture();
  const { repo } = fixture;
  const commits = Array.from(
    { length: 14 },
    (_, at) =>
      `commit refs/heads/main\ncommitter A <a@example.com> ${at} +0000\ndata 1\nc\nM 644 inline a\ndata 3\n${10 + at}\n\n`,
  );
  execFileSync('git', ['fast-import', '--quiet'], { cwd: repo.path, input: commits.join('') });
  repo.git('reset', '-q', '--hard');
  await fixture.prepare();
});
afterEach(() => fixture.remove());

/** The engine's side of a connection whose other end is a socket. */
function streamOver(socket: Duplex): EngineStream {
  return {
    send: async (type, payload = '') => {
      if (type !== 'stdout' || socket.destroyed || socket.write(payload)) return;
      await new Promise((done) => ['drain', 'close'].forEach((event) => socket.once(event, done)));
    },
    onFrame: (handler) => {
      const hand = (type: 'stdin' | 'stdin-end', payload: Buffer): void => void handler({ type, payload });
      socket.on('data', (payload: Buffer) => hand('stdin', payload));
      // A program that has ended closes it, perhaps before its end was read.
      for (const event of ['end', 'close']) socket.once(event, () => hand('stdin-end', Buffer.alloc(0)));
      if (socket.destroyed) hand('stdin-end', Buffer.alloc(0));
    },
  };
}

/** Runs a git command of the host that talks to the VM by its descriptor 3. Rejects as either side does. */
async function git(
  repo: GitRepo,
  args: readonly [string, ...string[]],
  context = fixture.context,
): Promise<void> {
  // Whatever hangs is told by what it was doing.
  const signal = AbortSignal.timeout(150_000);
  const child = startChildStream(['git', ...args], {
    cwd: repo.path,
    env: { PATH: process.env['PATH'], ...gitEnvironment },
    signal,
    hasExtra: true,
  });
  child.stdio.resume();
  child.stdio.end();
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const stream = streamOver(child.extra!);
  const operation = { ...fixture.operation, signal };
  try {
    await serveWorkspace(context, { vm: 'web' }, { operation, stream });
    signal.throwIfAborted();
  } catch (error) {
    if (signal.aborted) throw new Error(`It hung while: ${fixture.stages.at(-1)}`, { cause: error });
    throw error;
  } finally {
    child.extra!.end();
    const { code } = await child.exit;
    if (code !== 0) said = `git exited with ${code}: ${said}`;
  }
  expect(said).not.toContain('git exited');
}

const fetch = (repo: GitRepo, ...refs: string[]) =>
  git(repo, ['fetch', '-q', '--no-write-fetch-head', 'fd::3', ...refs]);

test('branches, and what is not committed, can be fetched and compared; guest and host stay as they are', async () => {
  const { repo, copy } = fixture;
  copy.write('a', 'in the VM\n');
  copy.git('commit', '-qam', 'in the VM');
  copy.write('loose', 'loose\n');
  const [index, head] = [copy.git('ls-files', '-s'), repo.git('rev-parse', 'HEAD')];
  await fetch(repo, '+refs/heads/*:refs/remotes/vm/*', '+refs/banger/worktree:refs/remotes/vm/worktree');
  expect(repo.git('rev-parse', 'vm/main')).toBe(copy.git('rev-parse', 'HEAD'));
  expect(repo.git('diff', '--name-only', 'HEAD...vm/main')).toBe('a\n');
  expect(repo.git('diff', '--name-only', 'vm/main', 'vm/worktree')).toBe('loose\n');
  // The guest has ten commits, and what was fetched has all that were here.
  expect(repo.git('rev-list', '--count', 'vm/main').trim()).toBe('15');
  expect(existsSync(join(repo.path, '.git/shallow'))).toBe(false);
  expect(copy.git('ls-files', '-s')).toBe(index);
  expect(repo.git('rev-parse', 'HEAD')).toBe(head);

  const worktree = repo.git('rev-parse', 'vm/worktree');
  await fetch(repo, '+refs/banger/worktree:refs/remotes/vm/worktree');
  expect(repo.git('rev-parse', 'vm/worktree')).toBe(worktree);
  copy.git('add', '.');
  copy.git('commit', '-qm', 'all of it');
  await fetch(repo, '+refs/banger/worktree:refs/remotes/vm/worktree');
  expect(repo.git('rev-parse', 'vm/worktree')).toBe(copy.git('rev-parse', 'HEAD'));
});

test('a clone has the branch that is checked out in the VM, and all of the history that is here', async () => {
  const { copy, directory } = fixture;
  copy.git('checkout', '-qb', 'feature');
  copy.write('a', 'feature\n');
  copy.git('commit', '-qam', 'feature');
  mkdirSync(join(directory, 'clones'));
  const clones = createRepo(join(directory, 'clones'));
  await git(clones, ['clone', '-q', 'fd::3', 'clone']);
  const clone = join(clones.path, 'clone');
  const run = (...args: string[]): string =>
    execFileSync('git', ['-C', clone, ...args], { encoding: 'utf8' }).trim();
  expect(run('branch', '--show-current')).toBe('feature');
  expect(run('rev-list', '--count', 'HEAD')).toBe('15');
  expect(run('fsck', '--strict')).toBe('');
});

test('without the tree that was sent, what the guest has is all there is', async () => {
  const { repo, copy, directory } = fixture;
  rmSync(join(repo.path, '.git'), { recursive: true });
  const other = createRepo(join(directory, 'other'));
  await git(other, ['fetch', '-q', '--update-shallow', 'fd::3', '+refs/heads/*:refs/heads/vm/*']);
  expect(other.git('rev-parse', 'vm/main')).toBe(copy.git('rev-parse', 'HEAD'));
  expect(other.git('rev-list', '--count', 'vm/main').trim()).toBe('10');
});

/** Writes a tree by hand, and commits it on the branch that is checked out. */
function commitTree(copy: GitRepo, entries: string): void {
  const env = { PATH: process.env['PATH'], ...gitEnvironment };
  const make = (args: string[], input: string): string =>
    execFileSync('git', args, { cwd: copy.path, env, input, encoding: 'utf8' }).trim();
  const blob = make(['hash-object', '-w', '--stdin'], '[core]\n\tfsmonitor = touch ran\n');
  const lines = entries.replaceAll('BLOB', blob).replaceAll('COMMIT', copy.git('rev-parse', 'HEAD').trim());
  const inner = make(['mktree'], `100644 blob ${blob}\tconfig\n`);
  const tree = make(['mktree', '--missing'], lines.replaceAll('TREE', inner));
  const commit = make(['commit-tree', tree, '-p', 'HEAD', '-m', 'evil'], '');
  copy.git('update-ref', 'refs/heads/main', commit);
}

test.each([
  ['a directory .git', '040000 tree TREE\t.git\n', 'hasDotgit'],
  ['a directory .GIT', '040000 tree TREE\t.GIT\n', 'hasDotgit'],
  ['a directory git~1', '040000 tree TREE\tgit~1\n', 'hasDotgit'],
  ['a name with ..', '100644 blob BLOB\t..\n', 'hasDotdot'],
  ['.gitmodules that is a symlink', '120000 blob BLOB\t.gitmodules\n', 'gitmodulesSymlink'],
])('a tree with %s is not taken', async (_, entries, reason) => {
  const { repo, copy } = fixture;
  commitTree(copy, entries);
  const before = repo.snapshot();
  await expect(fetch(repo, '+refs/heads/*:refs/remotes/vm/*')).rejects.toThrow(reason);
  expect(repo.snapshot()).toEqual(before);
});

test('submodules whose URL is a command are not taken', async () => {
  const { repo, copy } = fixture;
  copy.write('.gitmodules', '[submodule "x"]\n\tpath = x\n\turl = -u./payload\n');
  copy.git('add', '.gitmodules');
  copy.git('commit', '-qm', 'evil');
  await expect(fetch(repo, '+refs/heads/*:refs/remotes/vm/*')).rejects.toThrow('gitmodulesUrl');
  expect(repo.git('branch', '-r')).toBe('');
});

test.each([
  ['is no git server', 'echo hello; exit 1'],
  ['hangs up', 'exit 0'],
  [
    'names references that lead out',
    `printf '0038%s ../../evil\\n' ${'a'.repeat(40)}; printf 0000; cat >/dev/null`,
  ],
])('a guest that %s is refused, and nothing arrives', async (_, answer) => {
  const { repo, directory, context } = fixture;
  const programs = join(directory, 'programs');
  mkdirSync(programs);
  const real = execFileSync('sh', ['-c', 'command -v git'], { encoding: 'utf8' }).trim();
  const script = `#!/bin/sh\ncase "$*" in *upload-pack*) ${answer};; *) exec ${real} "$@";; esac\n`;
  writeFileSync(join(programs, 'git'), script, { mode: 0o755 });
  const { guest } = createFakeGuest({ env: { PATH: `${programs}:${process.env['PATH']}` } });
  const before = repo.snapshot();
  const hostile = { ...context, guest: async () => guest };
  await expect(
    git(repo, ['fetch', '-q', '--no-write-fetch-head', 'fd::3', '+refs/*:refs/vm/*'], hostile),
  ).rejects.toThrow('git does not take what VM "web" has');
  expect(repo.snapshot()).toEqual(before);
});

test("the guest's hooks and configuration run nothing on the host, and nothing for the fetch in the guest", async () => {
  const { repo, copy, directory } = fixture;
  const trap = `#!/bin/sh\ntouch ${directory}/ran\n`;
  writeFileSync(join(directory, 'trap'), trap, { mode: 0o755 });
  for (const name of ['core.fsmonitor', 'core.sshCommand', 'core.pager', 'uploadpack.packObjectsHook'])
    copy.git('config', name, join(directory, 'trap'));
  for (const name of ['post-checkout', 'reference-transaction', 'post-index-change', 'pre-commit'])
    copy.write(`.git/hooks/${name}`, trap, 0o755);
  copy.write('loose', 'loose\n');
  await fetch(repo, '+refs/banger/worktree:refs/remotes/vm/worktree');
  expect(repo.git('show', 'vm/worktree:loose')).toBe('loose\n');
  expect(existsSync(join(directory, 'ran'))).toBe(false);
});

test('a URL means one workspace, or is answered with those there are', () => {
  const workspace = (guestPath: string) => ({
    vmId: 'a',
    hostPath: '/h',
    guestPath,
    baseTree: 'b',
    preparedAt: '2026-01-01T00:00:00Z',
  });
  const all = [workspace('/root/app'), workspace('/srv/app'), workspace('/root/lib')];
  expect(chooseWorkspace('web', [all[0]!], undefined).guestPath).toBe('/root/app');
  expect(chooseWorkspace('web', all, '/root/app').guestPath).toBe('/root/app');
  expect(chooseWorkspace('web', all, '/lib').guestPath).toBe('/root/lib');
  for (const place of [undefined, '/app', '/none'])
    expect(() => chooseWorkspace('web', all, place)).toThrow(
      expect.objectContaining({ code: 'invalid_argument' }),
    );
  expect(() => chooseWorkspace('web', all, '/app')).toThrow('has not one workspace at "/app"');
  expect(() => chooseWorkspace('web', [], undefined)).toThrow('has no workspace');
});

test('the working tree of a sparse checkout is a commit of what changed, and deletes nothing', async () => {
  const { repo, copy } = fixture;
  for (const name of ['in/a', 'out/b', 'out/c']) repo.write(name, 'one\n');
  repo.commit('more');
  repo.git('sparse-checkout', 'set', 'in');
  await fixture.prepare({ overwrite: true });
  const fetched = async (): Promise<string> => {
    await git(repo, ['fetch', '-q', 'fd::3', 'refs/banger/worktree']);
    return repo.git('diff', '--name-status', 'HEAD', 'FETCH_HEAD');
  };
  expect(await fetched()).toBe('');
  expect(repo.git('rev-parse', 'FETCH_HEAD')).toBe(repo.git('rev-parse', 'HEAD'));
  copy.write('in/a', 'two\n');
  copy.write('out/c', 'made there\n');
  expect(await fetched()).toBe('M\tin/a\nM\tout/c\n');
});
