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
