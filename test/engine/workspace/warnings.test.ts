import { execFileSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createFixture, type Fixture } from './workspace-fixture.ts';

let fixture: Fixture;
beforeEach(() => {
  fixture = createFixture();
});
afterEach(() => fixture.remove());

/** So many commits without changes, on another commit or on none; returns the last. */
function commits(count: number, parent?: string): string {
  const { repo } = fixture;
  const tree = repo.git('write-tree').trim();
  let last = parent;
  for (let index = 0; index < count; index++)
    last = repo.git('commit-tree', ...(last ? ['-p', last] : []), '-m', `commit ${index}`, tree).trim();
  return last!;
}

test('a tracked file that is a pipe now is named, and the rest is sent', async () => {
  const { repo, guestPath } = fixture;
  repo.write('a', 'a\n');
  repo.write('pipe', 'was a file\n');
  repo.commit('first');
  rmSync(join(repo.path, 'pipe'));
  execFileSync('mkfifo', [join(repo.path, 'pipe')]);
  const warnings = ['"pipe" is neither file nor symlink now and stays behind'];
  expect(await fixture.plan()).toMatchObject({ count: 1, warnings });
  expect(await fixture.prepare()).toMatchObject({ files: 1, warnings });
  expect(existsSync(join(guestPath, 'pipe'))).toBe(false);
});

test('a bisect under way stays behind, and is told', async () => {
  const { repo, copy } = fixture;
  repo.write('a', 'a\n');
  const first = repo.commit('first');
  for (const text of ['b\n', 'c\n', 'd\n']) {
    repo.write('a', text);
    repo.commit(text);
  }
  repo.git('bisect', 'start', 'HEAD', first);
  const head = repo.git('rev-parse', 'HEAD');
  expect((await fixture.prepare()).warnings).toEqual([
    'A bisect is under way; its marks, and the history it needs, stay behind',
  ]);
  expect(copy.git('rev-parse', 'HEAD')).toBe(head);
  expect(() => copy.git('bisect', 'log')).toThrow();
});

test('a cherry-pick of more commits than a state has stays behind, and is told', async () => {
  const { repo, copy } = fixture;
  repo.write('a', 'base\n');
  const base = repo.commit('base');
  repo.git('switch', '-qc', 'side');
  repo.write('a', 'side\n');
  const last = commits(101, repo.commit('side'));
  repo.git('switch', '-q', 'main');
  repo.write('a', 'main\n');
  repo.commit('main');
  expect(() => repo.git('cherry-pick', `${base}..${last}`)).toThrow();
  expect((await fixture.prepare()).warnings).toEqual([
    expect.stringMatching(
      /^What git is in the middle of is too large and stays behind: .*CHERRY_PICK_HEAD, sequencer in \.git$/,
    ),
  ]);
  expect(existsSync(join(copy.path, '.git/sequencer'))).toBe(false);
  // The tree itself is exact: the conflict is there, with its sides.
  expect(copy.git('diff', '--name-only', '--diff-filter=U')).toBe('a\n');
});

test('an upstream of another history, far away, stays behind, and is told', async () => {
  const { repo, copy } = fixture;
  repo.write('a', 'a\n');
  repo.commit('first');
  repo.git('update-ref', 'refs/remotes/origin/far', commits(101));
  repo.git('config', 'remote.origin.url', '/nowhere');
  repo.git('config', 'remote.origin.fetch', '+refs/heads/*:refs/remotes/origin/*');
  repo.git('branch', '-q', '--set-upstream-to=origin/far');
  expect((await fixture.prepare()).warnings).toEqual([
    '"origin/far", which the branch follows, is too far away and stays behind',
  ]);
  expect(copy.git('for-each-ref', 'refs/remotes')).toBe('');
});

test('what git shows otherwise here than it is, by replaced objects, grafts and programs, is told', async () => {
  const { repo, copy } = fixture;
  repo.write('.gitattributes', '*.t diff=loud\n');
  repo.write('a.t', 'one\n');
  const first = repo.commit('first');
  repo.write('a.t', 'two\n');
  const second = repo.commit('second');
  repo.write('a.t', 'three\n');
  repo.git('config', 'diff.loud.textconv', 'tr a-z A-Z <');
  repo.git('config', 'diff.quiet.textconv', 'cat');
  repo.git('config', 'diff.external', 'diff');
  repo.git('replace', second, first);
  repo.write('.git/info/grafts', `${second}\n`);
  const { warnings } = await fixture.prepare();
  expect(warnings).toEqual([
    'By "git replace" an object is shown as others here; in the VM git shows what they are',
    '".git/info/grafts" gives commits other parents here; in the VM they have their own',
    'The setting diff.external stays behind: "git diff" in the VM shows changes without it',
    '"a.t": "git diff" here shows changes by a program of this host (diff.loud.textconv), in the VM as they are',
  ]);
  expect(copy.git('log', '--format=%H')).toBe(`${second}\n${first}\n`);
  copy.git('fsck', '--strict');
  expect(copy.git('diff')).toContain('-two\n+three\n');
});

test('objects that are gone are named with what can be done, and nothing is sent', async () => {
  const { repo, guestPath, directory } = fixture;
  for (const content of ['one\n', 'two\n']) {
    repo.write('a', content);
    repo.commit(content);
  }
  repo.git('config', 'uploadpack.allowFilter', 'true');
  const path = join(directory, 'treeless');
  repo.git('clone', '-q', '--filter=tree:0', `file://${repo.path}`, path);
  await expect(fixture.prepare({ path })).rejects.toMatchObject({
    message: expect.stringMatching(
      /^".*treeless" lacks objects of what is to be sent: fatal: bad tree object /,
    ),
    hint: `It is a partial clone; complete it: git -C ${path} fetch --refetch --no-filter`,
  });
  const blob = repo.git('rev-parse', 'HEAD~:a').trim();
  rmSync(join(repo.path, '.git/objects', blob.slice(0, 2), blob.slice(2)));
  await expect(fixture.prepare()).rejects.toMatchObject({
    message: expect.stringContaining(`unable to read ${blob}`),
    hint: `See what is damaged: git -C ${repo.path} fsck`,
  });
  expect(existsSync(guestPath)).toBe(false);
});
