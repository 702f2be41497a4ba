import { existsSync, readFileSync, rmSync } from 'node:fs';
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
  for (const name of ['a', 'b']) fixture.repo.write(name, lines([20, name]));
  fixture.repo.write('bin', Buffer.from([0, 1, 2]));
  fixture.repo.commit('first');
  await fixture.prepare();
});
afterEach(() => fixture.remove());

const there = (name: string): string => readFileSync(join(fixture.copy.path, name), 'utf8');
const apply = async (params: Parameters<Fixture['apply']>[0] = {}): Promise<string[]> =>
  (await fixture.apply(params)).files.map(({ outcome, path }) => `${outcome} ${path}`);

test('a conflict that no markers can show is settled by naming the file, and is not told again', async () => {
  const { copy, repo } = fixture;
  copy.write('bin', Buffer.from([0, 9]));
  copy.write('b', lines([8, 'guest'], [20, 'b']));
  copy.write('a', 'guest\n');
  repo.write('bin', Buffer.from([0, 8]));
  rmSync(join(repo.path, 'a'));
  expect(await apply()).toEqual(['conflict a', 'applied b', 'conflict bin']);
  expect(await apply({ ours: ['bin'] })).toEqual(['conflict a', 'applied b', 'present bin']);
  expect(await apply({ ours: ['bin', 'a'] })).toEqual(['present a', 'applied b', 'present bin']);
  expect(await apply()).toEqual(['present a', 'present b', 'present bin']);

  // Until the guest has another version.
  copy.write('bin', Buffer.from([0, 7]));
  expect(await apply()).toEqual(['present a', 'present b', 'conflict bin']);
  await expect(fixture.prepare()).rejects.toThrow('has changes that would be lost: "bin"');
  await apply({ ours: ['bin'] });
  await fixture.prepare();
  expect(existsSync(join(copy.path, 'a'))).toBe(false);
  expect(treeOf(copy.path)).toEqual(treeOf(repo.path));
});

test('a change that is not wanted, or a part of one, is taken back in the guest by the next prepare', async () => {
  const { copy, repo } = fixture;
  copy.write('a', lines([8, 'guest'], [20, 'a']));
  copy.write('b', lines([8, 'guest'], [14, 'guest'], [20, 'b']));
  copy.write('new', 'guest\n');
  await fixture.apply();
  repo.git('checkout', '-q', '--', 'a');
  repo.write('b', lines([8, 'guest'], [20, 'b']));
  await expect(fixture.prepare()).rejects.toMatchObject({
    message: `"${fixture.guestPath}" in VM "web" has changes that would be lost: "b"; they were applied here, and are not here any more, or not all of them`,
    hint: `Apply them again, or keep yours with --ours FILE: banger workspace apply ${repo.path} --vm web --guest-path ${fixture.guestPath}`,
  });
  expect(await apply({ ours: ['a', 'b'] })).toEqual(['present a', 'present b', 'present new']);
  await fixture.prepare({ includeUntracked: true });
  expect(treeOf(copy.path)).toEqual(treeOf(repo.path));

  // It is as sent on both sides now, and nothing of before is in the way.
  for (const text of [lines([3, 'host'], [20, 'a']), lines([20, 'a'])]) {
    repo.write('a', text);
    await fixture.prepare({ includeUntracked: true });
    expect(there('a')).toBe(text);
  }
  copy.write('a', lines([8, 'guest'], [20, 'a']));
  expect(await apply()).toEqual(['applied a']);
});

test('a file that is named and did not change is an error, and nothing is written', async () => {
  const { copy, repo } = fixture;
  copy.write('a', 'guest\n');
  const before = treeOf(repo.path);
  await expect(fixture.apply({ ours: ['b'] })).rejects.toMatchObject({
    code: 'invalid_argument',
    message: '"b" is no file that changed in the VM',
  });
  expect(treeOf(repo.path)).toEqual(before);
});
