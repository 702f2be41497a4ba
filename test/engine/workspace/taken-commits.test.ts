import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { lines } from './changed-tree.ts';
import { treeOf } from './random-edits.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

let fixture: Fixture;
beforeEach(async () => {
  fixture = createFixture();
  for (const name of ['a', 'b', 'dirty']) fixture.repo.write(name, lines([20, name]));
  fixture.repo.commit('first');
  fixture.repo.write('dirty', 'not committed here\n');
  await fixture.prepare();
});
afterEach(() => fixture.remove());

const there = (name: string): string => readFileSync(join(fixture.copy.path, name), 'utf8');
const headOf = (side: 'repo' | 'copy', name = 'HEAD'): string => fixture[side].git('rev-parse', name);
const stopped = (): Promise<void> =>
  expect(fixture.prepare()).rejects.toMatchObject({
    message: `"${fixture.guestPath}" in VM "web" has commits that would be lost`,
    hint: `Take all of what they changed over: banger workspace apply ${fixture.repo.path} --vm web --guest-path ${fixture.guestPath}; or get them, and give --overwrite: git fetch banger::web${fixture.guestPath}`,
  });

test('both sides commit, round after round: what the guest committed and was taken over is only history', async () => {
  const { copy, repo } = fixture;
  for (const round of ['one', 'two', 'three']) {
    copy.write('a', lines([8, round], [20, 'a']));
    copy.git('commit', '-qam', `guest ${round}`);
    copy.write(`new-${round}`, 'new\n');
    copy.git('add', '-A');
    copy.git('commit', '-qm', `guest ${round}, more`);
    const own = headOf('copy');
    await fixture.apply();
    repo.git('add', '-A');
    repo.git('commit', '-qm', `host ${round}`);
    repo.write('b', lines([3, round], [20, 'b']));

    const kept = `refs/banger/before/${own.slice(0, 12)}`;
    expect((await fixture.prepare()).warnings).toEqual([
      `What was committed in VM "web" is in the tree here, and its branch is where it is here now. Its commits are kept there as ${kept}: banger vm exec web -- git -C ${fixture.guestPath} log ${kept}`,
    ]);
    expect(headOf('copy')).toBe(headOf('repo'));
    expect(headOf('copy', kept)).toBe(own);
    expect(copy.git('status', '--porcelain')).toBe(repo.git('status', '--porcelain'));
    expect(treeOf(copy.path)).toEqual(treeOf(repo.path));
    expect((await fixture.prepare()).warnings).toEqual([]);
  }
  expect(copy.git('fsck', '--no-dangling')).toBe('');
});

test('watch goes on, too, and what the guest did since its commit stays in its files', async () => {
  const { copy, repo } = fixture;
  copy.write('a', lines([8, 'one'], [20, 'a']));
  copy.git('commit', '-qam', 'guest');
  await fixture.apply();
  copy.write('a', lines([8, 'two'], [20, 'a']));
  await fixture.apply();
  copy.write('b', 'not taken over\n');
  repo.commit('host');
  expect(await fixture.prepare({ policy: 'keep' })).toMatchObject({ update: { kept: ['b'], conflicts: [] } });
  expect(headOf('copy')).toBe(headOf('repo'));
  expect(there('b')).toBe('not taken over\n');
  expect(copy.git('status', '--porcelain')).toBe(' M b\n');
});

test('what was sent back to the guest, edited, before it was committed here is history there, too', async () => {
  const { copy, repo } = fixture;
  copy.write('a', lines([8, 'guest'], [20, 'a']));
  copy.git('commit', '-qam', 'guest');
  await fixture.apply();
  repo.write('a', lines([8, 'guest, edited'], [20, 'a']));
  await fixture.prepare();
  expect(headOf('copy')).not.toBe(headOf('repo'));
  repo.commit('host');
  await fixture.prepare();
  expect(headOf('copy')).toBe(headOf('repo'));
  expect(copy.git('status', '--porcelain')).toBe('');
});

test('commits with the same changes as here are only history, taken over by whatever way', async () => {
  const { copy, repo } = fixture;
  for (const tree of [copy, repo]) {
    tree.write('a', 'the same\n');
    rmSync(join(tree.path, 'b'));
    tree.git('commit', '-qam', `of ${tree.path}`);
  }
  await fixture.prepare();
  expect(headOf('copy')).toBe(headOf('repo'));
});

test('where the host stages without a commit, the guest has its branch and its index', async () => {
  const { copy, repo } = fixture;
  copy.write('a', 'guest\n');
  copy.git('commit', '-qam', 'guest');
  await fixture.apply();
  repo.write('staged', 'host\n');
  repo.git('add', 'staged');
  await fixture.prepare();
  expect(headOf('copy')).toBe(headOf('repo'));
  expect(copy.git('status', '--porcelain')).toBe(repo.git('status', '--porcelain'));
});

test.each<[string, (fixture: Fixture) => Promise<unknown> | undefined]>([
  [
    'has more than was applied',
    async ({ apply, copy }) => {
      await apply();
      copy.write('b', 'guest\n');
      copy.git('commit', '-qam', 'more');
    },
  ],
  [
    'has a later version of what was applied',
    async ({ apply, copy }) => {
      await apply();
      copy.write('a', 'guest, later\n');
      copy.git('commit', '-qam', 'more');
    },
  ],
  [
    'has what was applied and thrown away here',
    async ({ apply, repo }) => {
      await apply();
      repo.git('checkout', '-q', '--', 'a');
    },
  ],
  [
    'has another past',
    async ({ apply, copy }) => {
      await apply();
      copy.git('commit', '-q', '--amend', '--no-edit');
      copy.git('reset', '-q', '--soft', 'HEAD~1');
      copy.git('commit', '-q', '--amend', '-m', 'of all');
    },
  ],
  ['was not applied', () => undefined],
])('a guest whose branch %s stops it, and loses nothing', async (_, act) => {
  const { copy, repo } = fixture;
  copy.write('a', 'guest\n');
  copy.git('commit', '-qam', 'guest');
  await act(fixture);
  repo.write('other', 'host\n');
  repo.git('add', 'other');
  repo.git('commit', '-qm', 'host');
  const before = [headOf('copy'), treeOf(copy.path)];
  await stopped();
  expect([headOf('copy'), treeOf(copy.path)]).toEqual(before);
});

test('commits on another branch, or on none, are not left', async () => {
  const { copy, repo } = fixture;
  copy.git('switch', '-q', '-c', 'own');
  copy.write('a', 'guest\n');
  copy.git('commit', '-qam', 'guest');
  await fixture.apply();
  repo.commit('host');
  await stopped();
  copy.git('switch', '-q', '--detach');
  await stopped();
});
