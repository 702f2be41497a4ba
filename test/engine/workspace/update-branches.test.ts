import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createFixture, type Fixture } from './workspace-fixture.ts';
import { viewOf } from '../../support/git-repo.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });

let fixture: Fixture;
beforeEach(async () => {
  fixture = createFixture();
  fixture.repo.write('file', 'one\n');
  fixture.repo.commit('first');
  await fixture.prepare();
});
afterEach(() => fixture.remove());

/** Commits on a branch, a new one unless it is there. */
function commitOn(side: 'repo' | 'copy', branch: string, content: string): string {
  const tree = fixture[side];
  const isThere = tree.git('branch', '--list', branch) !== '';
  tree.git('switch', '-q', ...(isThere ? [] : ['-c']), branch);
  tree.write('file', content);
  tree.git('commit', '-qam', content);
  return tree.git('rev-parse', 'HEAD').trim();
}

const branchesOf = (): string => fixture.copy.git('for-each-ref', '--format=%(refname) %(objectname)');

test('a branch of the guest’s own is not moved to the host’s of the same name', async () => {
  const { repo, copy } = fixture;
  commitOn('copy', 'fix', 'of the guest\n');
  copy.git('switch', '-q', 'main');
  commitOn('repo', 'fix', 'of the host\n');
  const before = branchesOf();
  await expect(fixture.prepare()).rejects.toMatchObject({
    message: `"${copy.path}" in VM "web" has commits or stashes that would be lost: "fix"`,
    hint: `Give --overwrite, or save the branches first: git fetch banger::web${copy.path}`,
  });
  expect(branchesOf()).toBe(before);
  // The workspace is none that is half of one thing.
  expect((await fixture.export()).files).toEqual([]);
  await fixture.prepare({ overwrite: true });
  expect(viewOf(copy)).toEqual(viewOf(repo));
});

test('a branch that the host’s follows is not moved away either, and stays where the host’s is as it was', async () => {
  const { repo, copy } = fixture;
  repo.git('switch', '-q', '-c', 'topic', '--track', 'main');
  await fixture.prepare();
  commitOn('copy', 'main', 'of the guest\n');
  copy.git('switch', '-q', 'topic');
  const before = branchesOf();
  commitOn('repo', 'topic', 'of the host\n');
  await fixture.prepare();
  expect(copy.git('rev-parse', 'topic')).toBe(repo.git('rev-parse', 'topic'));
  expect(before).toContain(copy.git('rev-parse', 'main').trim());
  repo.git('branch', '-q', '-f', 'main', 'topic');
  await expect(fixture.prepare()).rejects.toThrow('would be lost: "main"');
  expect(before).toContain(copy.git('rev-parse', 'main').trim());
});

test('a branch without commits of the guest’s own is the host’s to move, also one from long ago', async () => {
  const { repo, copy } = fixture;
  copy.git('branch', 'fix');
  commitOn('repo', 'fix', 'two\n');
  await fixture.prepare();
  expect(viewOf(copy)).toEqual(viewOf(repo));
  commitOn('repo', 'main', 'three\n');
  for (let count = 0; count < 12; count++) commitOn('repo', 'main', `${count}\n`);
  await fixture.prepare();
  commitOn('repo', 'fix', 'four\n');
  await fixture.prepare();
  expect(viewOf(copy)).toEqual(viewOf(repo));
});

test('a guest that has switched to another branch is not mixed with what is new on the one before', async () => {
  const { repo, copy } = fixture;
  copy.git('switch', '-q', '-c', 'mine');
  // What moves no branch goes on.
  repo.write('file', 'two\n');
  expect(await fixture.prepare()).toMatchObject({ files: 1 });
  repo.commit('second');
  const before = branchesOf();
  await expect(fixture.prepare()).rejects.toMatchObject({
    message: `"${copy.path}" in VM "web" is on branch "mine" now, and "main" has moved here`,
    hint: `Switch back there: banger vm exec web -- git -C ${copy.path} switch main; or give --overwrite`,
  });
  expect([branchesOf(), copy.git('branch', '--show-current')]).toEqual([before, 'mine\n']);
  copy.git('switch', '-q', '--detach');
  await expect(fixture.prepare()).rejects.toThrow('is on no branch now, and "main" has moved here');
  await fixture.prepare({ overwrite: true });
  expect(viewOf(copy)).toEqual(viewOf(repo));
  // The guest may have gone where the host goes.
  copy.git('switch', '-q', '-c', 'next');
  commitOn('repo', 'next', 'three\n');
  await fixture.prepare();
  expect(viewOf(copy)).toEqual(viewOf(repo));
});

test.each([
  ['fix', 'fix/login'],
  ['fix/login', 'fix'],
])(
  'with a branch %s there, %s cannot be there too, which is said before anything changes',
  async (one, other) => {
    const { repo, copy } = fixture;
    commitOn('copy', one, 'of the guest\n');
    copy.git('pack-refs', '--all');
    copy.git('switch', '-q', 'main');
    commitOn('repo', other, 'of the host\n');
    const before = branchesOf();
    await expect(fixture.prepare()).rejects.toMatchObject({
      message: `"${copy.path}" in VM "web" has a branch "${one}": there is no room for "${other}"`,
      hint: `Rename it there: banger vm exec web -- git -C ${copy.path} branch -m ${one} NAME; or give --overwrite`,
    });
    expect(branchesOf()).toBe(before);
    expect((await fixture.export()).files).toEqual([]);
    await fixture.prepare({ overwrite: true });
    expect(viewOf(copy)).toEqual(viewOf(repo));
  },
);

test('what the host’s branch follows may take the name that a directory of branches had', async () => {
  const { repo, copy, directory } = fixture;
  const origin = join(directory, 'origin.git');
  repo.git('init', '-q', '--bare', origin);
  repo.git('remote', 'add', 'origin', origin);
  repo.git('push', '-q', '-u', 'origin', 'main:team/work');
  await fixture.prepare();
  repo.git('push', '-q', 'origin', ':team/work');
  repo.git('push', '-q', '-u', 'origin', 'main:team');
  await fixture.prepare();
  expect(copy.git('for-each-ref', '--format=%(refname)', 'refs/remotes')).toBe('refs/remotes/origin/team\n');
  expect(viewOf(copy)).toEqual(viewOf(repo));
});
