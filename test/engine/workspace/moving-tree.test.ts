import { execFile } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { inspectTree } from '../../../src/engine/workspace/host-tree/inspect-tree.ts';
import { gitEnvironment } from '../../support/git-repo.ts';
import { createFixture, hermeticExec, type Fixture } from './workspace-fixture.ts';

let fixture: Fixture;
beforeEach(() => {
  fixture = createFixture();
  fixture.repo.write('a', 'a\n');
  fixture.repo.write('b', 'b\n');
  fixture.repo.commit('first');
});
afterEach(() => fixture.remove());

/** Calls back whenever the engine's git begins to compare files with the index. */
function whenCompared(act: () => void): void {
  const exec: typeof hermeticExec = (argv, options) => {
    if (argv.includes('diff-files')) act();
    return hermeticExec(argv, options);
  };
  Object.assign(fixture.context, { exec });
}

test('a `git add` while the tree is read makes it be read again, as one state', async () => {
  const { repo, copy } = fixture;
  let count = 0;
  whenCompared(() => {
    if (count++ > 0) return;
    repo.write('a', 'staged meanwhile\n');
    repo.git('add', 'a');
  });
  await fixture.prepare();
  expect(count).toBe(2);
  expect(copy.git('status', '--porcelain=v2')).toBe(repo.git('status', '--porcelain=v2'));
  expect(copy.git('show', ':a')).toBe('staged meanwhile\n');
});

test('a checkout of another branch while the tree is read makes it be read again', async () => {
  const { repo, copy } = fixture;
  repo.git('checkout', '-q', '-b', 'other');
  repo.write('b', 'other\n');
  repo.commit('other');
  repo.git('checkout', '-q', 'main');
  let count = 0;
  whenCompared(() => void (count++ === 0 && repo.git('checkout', '-q', 'other')));
  expect(await fixture.prepare()).toMatchObject({ branch: 'other' });
  expect(copy.git('status', '--porcelain=v2', '--branch')).toBe(
    repo.git('status', '--porcelain=v2', '--branch'),
  );
});

test('a repository that never rests is an error, and nothing is sent', async () => {
  const { repo } = fixture;
  let count = 0;
  whenCompared(() => {
    repo.write('a', `${'x'.repeat(++count)}\n`);
    repo.git('add', 'a');
  });
  await expect(fixture.prepare()).rejects.toMatchObject({
    code: 'busy',
    message: `Git keeps changing "${repo.path}" while it is being read`,
  });
  expect(existsSync(fixture.guestPath)).toBe(false);
});

test('the index lock of another git is waited for', async () => {
  const { repo } = fixture;
  const lock = join(repo.path, '.git/index.lock');
  writeFileSync(lock, '');
  const release = delay(300).then(() => rmSync(lock));
  expect(await fixture.prepare()).toMatchObject({ files: 2 });
  await release;
});

test('a lock that stays is named, and not removed', async () => {
  const { repo, directory } = fixture;
  const lock = join(repo.path, '.git/index.lock');
  writeFileSync(lock, 'mine');
  const input = {
    path: repo.path,
    scratch: directory,
    includeUntracked: false,
    signal: new AbortController().signal,
    lockTimeoutMs: 200,
  };
  await expect(inspectTree(hermeticExec, input)).rejects.toMatchObject({
    code: 'busy',
    message: `Another git is at work in "${repo.path}": "${lock}" exists`,
    hint: expect.stringContaining(`rm ${lock}`),
  });
  expect(readFileSync(lock, 'utf8')).toBe('mine');
});

test('a garbage collection meanwhile does no harm on either side', async () => {
  const { repo, copy } = fixture;
  for (const count of [1, 2, 3, 4]) {
    repo.write('a', `${count}\n`);
    repo.commit(`commit ${count}`);
  }
  repo.write('b', 'staged\n');
  repo.git('add', 'b');
  const env = { PATH: process.env['PATH'], ...gitEnvironment };
  const run = promisify(execFile);
  const collecting = run('git', ['gc', '-q', '--prune=now'], { cwd: repo.path, env });
  await Promise.all([fixture.prepare(), collecting]);
  copy.git('fsck', '--strict');
  repo.git('fsck', '--strict');
  expect(copy.git('diff', '--cached')).toBe(repo.git('diff', '--cached'));
});
