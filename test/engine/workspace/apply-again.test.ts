import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Failpoints } from '../../../src/engine/failpoints.ts';
import { vmPaths } from '../../../src/state/layout.ts';
import { runWith } from '../../support/vm-world.ts';
import { lines } from './changed-tree.ts';
import { treeOf } from './random-edits.ts';
import { createFixture, vmId, type Fixture } from './workspace-fixture.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

let fixture: Fixture;
beforeEach(async () => {
  fixture = createFixture();
  for (const name of ['a', 'b', 'old']) fixture.repo.write(name, lines([20, name]));
  fixture.repo.write('bin', Buffer.from([0, 1, 2]));
  fixture.repo.write('.gitignore', 'ignored\n');
  fixture.repo.commit('first');
  await fixture.prepare();
});
afterEach(() => fixture.remove());

const here = (name: string): string => readFileSync(join(fixture.repo.path, name), 'utf8');
const there = (name: string): string => readFileSync(join(fixture.copy.path, name), 'utf8');
const remove = (name: string, from: 'repo' | 'copy'): void => rmSync(join(fixture[from].path, name));
const told = ({ files }: Awaited<ReturnType<Fixture['apply']>>): string[] =>
  files.map(({ outcome, path }) => `${outcome} ${path}`);
const apply = async (params: Parameters<Fixture['apply']>[0] = {}): Promise<string[]> =>
  told(await fixture.apply(params));

test('each apply takes over what the guest did since the one before, what it took back included', async () => {
  const { copy, repo } = fixture;
  const same = (): void => expect(treeOf(repo.path)).toEqual(treeOf(copy.path));
  copy.write('a', lines([3, 'one'], [20, 'a']));
  copy.write('new', 'one\n');
  copy.write('bin', Buffer.from([0, 9]));
  copy.git('mv', 'old', 'moved');
  expect(await apply()).toEqual(['applied a', 'applied bin', 'applied moved', 'applied new', 'applied old']);
  same();

  copy.write('a', lines([3, 'two'], [20, 'a']));
  copy.write('new', 'two\n');
  copy.write('bin', Buffer.from([0, 8]));
  copy.write('moved', lines([3, 'two'], [20, 'old']));
  copy.git('commit', '-qam', 'in the guest');
  expect(await apply()).toEqual(['applied a', 'applied bin', 'applied moved', 'applied new', 'present old']);
  same();

  copy.write('a', lines([20, 'a']));
  remove('new', 'copy');
  copy.git('mv', 'moved', 'old');
  copy.write('old', lines([20, 'old']));
  const { files } = await fixture.apply({ dryRun: true });
  expect(files.map(({ outcome, status, path }) => `${outcome} ${status} ${path}`)).toEqual([
    'applied modified a',
    'present modified bin',
    'applied deleted moved',
    'applied deleted new',
    'applied added old',
  ]);
  await fixture.apply();
  same();
  copy.write('bin', Buffer.from([0, 1, 2]));
  expect(await apply()).toEqual(['applied bin']);
  same();
  expect(await apply()).toEqual([]);
});

test('what changed here meanwhile is merged with what the guest did since, in a file that was moved here too', async () => {
  const { copy, repo } = fixture;
  copy.write('a', lines([3, 'guest'], [20, 'a']));
  copy.write('b', lines([3, 'guest'], [20, 'b']));
  await fixture.apply();
  repo.write('a', lines([3, 'guest'], [10, 'host'], [20, 'a']));
  repo.git('mv', 'b', 'c');
  repo.commit('taken over');
  copy.write('a', lines([3, 'guest, later'], [20, 'a']));
  copy.write('b', lines([3, 'guest, later'], [20, 'b']));
  expect(await apply()).toEqual(['merged a', 'merged b']);
  expect(here('a')).toBe(lines([3, 'guest, later'], [10, 'host'], [20, 'a']));
  expect(here('c')).toBe(lines([3, 'guest, later'], [20, 'b']));
});

test('what was merged here goes to the guest with the next prepare, committed or not; what it did since stays', async () => {
  const { copy, repo } = fixture;
  repo.write('a', lines([1, 'host'], [20, 'a']));
  copy.write('a', lines([8, 'guest'], [20, 'a']));
  copy.write('b', lines([8, 'guest'], [20, 'b']));
  expect(await apply()).toEqual(['merged a', 'applied b']);
  copy.write('b', lines([8, 'guest, later'], [20, 'b']));
  expect(await fixture.prepare()).toMatchObject({ update: { kept: ['b'] } });
  expect(there('a')).toBe(lines([1, 'host'], [8, 'guest'], [20, 'a']));
  expect(there('b')).toBe(lines([8, 'guest, later'], [20, 'b']));
  // The new base is as the host has it.
  expect(await apply()).toEqual(['applied b']);

  copy.write('a', lines([1, 'host'], [8, 'guest'], [12, 'guest'], [20, 'a']));
  repo.write('a', lines([1, 'more'], [8, 'guest'], [20, 'a']));
  expect(await apply()).toEqual(['merged a', 'present b']);
  repo.commit('all of it');
  await fixture.prepare();
  expect(there('a')).toBe(lines([1, 'more'], [8, 'guest'], [12, 'guest'], [20, 'a']));
  expect(copy.git('status', '--porcelain')).toBe('');
});

test('a file that both changed since it was applied stops prepare; the guest keeps it when asked to go on', async () => {
  const { copy, repo } = fixture;
  copy.write('a', 'guest\n');
  await fixture.apply();
  copy.write('a', 'guest, later\n');
  repo.write('a', 'host\n');
  await expect(fixture.prepare()).rejects.toThrow('has changes that would be lost: "a"');
  expect(await fixture.prepare({ policy: 'keep' })).toMatchObject({ update: { conflicts: ['a'] } });
  expect(there('a')).toBe('guest, later\n');
  // It is compared with what was applied still.
  copy.write('a', 'guest\n');
  await fixture.prepare();
  expect(there('a')).toBe('host\n');
});

test('what the guest did in the very second in which it was applied here is seen after a prepare, too', async () => {
  const { copy, repo } = fixture;
  copy.write('a', 'guest 1\n');
  await fixture.apply();
  copy.write('a', 'guest 2\n');
  // Not just now: git reads what is as new as its index.
  const second = Math.floor(Date.now() / 1000) - 5;
  for (const { path } of [repo, copy]) utimesSync(join(path, 'a'), second, second);
  repo.git('add', 'a');
  expect(await fixture.prepare()).toMatchObject({ update: { kept: ['a'] } });
  copy.git('add', 'b');
  expect(copy.git('status', '--porcelain')).toBe('MM a\n');
  expect(await apply()).toEqual(['applied a']);
});

test('a new file that stays untracked here is merged after a prepare, too', async () => {
  const { copy, repo } = fixture;
  copy.write('new', lines());
  await fixture.apply();
  expect(await fixture.prepare()).toMatchObject({ update: { kept: ['new'] } });
  copy.write('new', lines([3, 'guest']));
  repo.write('new', lines([18, 'host']));
  expect(await apply()).toEqual(['merged new']);
  await fixture.prepare({ includeUntracked: true });
  expect(there('new')).toBe(lines([3, 'guest'], [18, 'host']));
});

test('a file that is here as it was sent has nothing of the guest: it is applied again, and not replaced in the guest', async () => {
  const { copy, repo } = fixture;
  copy.write('a', 'guest\n');
  copy.write('new', 'guest\n');
  await fixture.apply();
  repo.git('stash', '-q', '-u');
  expect(await fixture.prepare()).toMatchObject({ update: { kept: ['a', 'new'] } });
  expect(await apply()).toEqual(['applied a', 'applied new']);
});

test('what was applied on another branch does not count, unless it is here all the same', async () => {
  const { copy, repo } = fixture;
  repo.git('branch', 'other');
  repo.git('commit', '-q', '--allow-empty', '-m', 'on main');
  copy.write('a', 'guest\n');
  copy.write('b', 'guest\n');
  await fixture.apply();
  repo.commit('taken over');
  // An amended commit is on the same branch.
  repo.git('commit', '-q', '--amend', '-m', 'amended');
  repo.write('a', 'guest and host\n');
  copy.write('a', 'guest\n');
  expect(await apply()).toEqual(['present a', 'present b']);
  repo.git('switch', '-q', '-f', 'other');
  repo.write('a', 'host\n');
  repo.write('b', 'guest\n');
  expect(await apply()).toEqual(['conflict a', 'present b']);
  await expect(fixture.prepare()).rejects.toThrow('has changes that would be lost: "a"');
});

test('a conflict is one until it is resolved here, once: markers are not put into others', async () => {
  const { copy, repo } = fixture;
  copy.write('a', lines([5, 'guest'], [20, 'a']));
  copy.write('bin', Buffer.from([0, 7]));
  copy.write('b', lines([5, 'guest'], [20, 'b']));
  repo.write('a', lines([5, 'host'], [20, 'a']));
  repo.write('bin', Buffer.from([0, 8]));
  expect(await apply()).toEqual(['conflict a', 'applied b', 'conflict bin']);
  expect(await apply({ markers: true })).toEqual(['conflict a', 'applied b', 'conflict bin']);
  const marked = here('a');
  expect(marked).toContain('<<<<<<< this tree\nhost\n=======\nguest\n>>>>>>> VM web\n');

  // Nothing of `bin` went in; `a` did.
  const again = await fixture.apply({ markers: true });
  expect(told(again)).toEqual(['present a', 'present b', 'conflict bin']);
  expect(again.warnings).toEqual(['"a" has conflict markers that nobody has resolved here']);
  copy.write('a', lines([5, 'guest, later'], [20, 'a']));
  const { files } = await fixture.apply({ markers: true });
  expect(files[0]).toMatchObject({
    outcome: 'conflict',
    reason: 'Merge conflict in a, which has conflict markers: resolve those first',
    isWritten: false,
  });
  expect(here('a')).toBe(marked);
  copy.write('a', lines([5, 'guest'], [20, 'a']));
  remove('bin', 'repo');
  copy.write('bin', Buffer.from([0, 1, 2]));
  await expect(fixture.prepare()).rejects.toThrow('has conflict markers that nobody has resolved: "a"');
  expect(there('a')).toBe(lines([5, 'guest'], [20, 'a']));

  repo.write('a', lines([5, 'host and guest'], [20, 'a']));
  expect(await apply()).toEqual(['present a', 'present b']);
  await fixture.prepare();
  expect(there('a')).toBe(lines([5, 'host and guest'], [20, 'a']));
  expect(await apply()).toEqual([]);
});

test('a file that git ignores from now on is neither removed here for that nor in the way', async () => {
  const { copy } = fixture;
  copy.write('log', 'guest\n');
  await fixture.apply();
  copy.write('.gitignore', 'ignored\nlog\n');
  expect(await apply()).toEqual(['applied .gitignore']);
  expect(here('log')).toBe('guest\n');
  copy.git('add', '-f', 'log');
  copy.write('log', 'guest, later\n');
  expect(await apply()).toEqual(['present .gitignore', 'applied log']);
  remove('log', 'copy');
  expect(await apply()).toEqual(['present .gitignore', 'applied log']);
  expect(existsSync(join(fixture.repo.path, 'log'))).toBe(false);
});

test.each<[string, (fixture: Fixture) => Promise<void> | void]>([
  [
    'the engine ends before it has noted it',
    async ({ apply: run }) => {
      const failing: Failpoints = (point) =>
        point === 'workspace.apply/files written' ? 'error' : undefined;
      await expect(runWith('workspace.apply', failing, (operation) => run({ operation }))).rejects.toThrow();
    },
  ],
  [
    'what it noted is damaged',
    async ({ apply: run, context }) => {
      await run();
      const { manifests } = vmPaths(context.layout, vmId);
      const name = readdirSync(manifests).find((each) => each.endsWith('.applied'))!;
      writeFileSync(join(manifests, name), readFileSync(join(manifests, name)).subarray(0, -4));
    },
  ],
  [
    'the disk of the VM is put back to an earlier time',
    async ({ apply: run, copy }) => {
      await run();
      rmSync(join(copy.path, '.git/banger-applied'));
    },
  ],
])('where %s, nothing counts as applied', async (_, lose) => {
  const { copy } = fixture;
  copy.write('a', 'guest\n');
  copy.write('b', 'guest\n');
  await lose(fixture);
  expect(here('a')).toBe('guest\n');
  copy.write('b', lines([20, 'b']));
  // `b` was not taken back in the guest, as far as anybody knows.
  expect(await apply()).toEqual(['present a']);
  expect(here('b')).toBe('guest\n');
  // From now on it is known again.
  copy.write('a', 'guest, later\n');
  expect(await apply()).toEqual(['applied a']);
});

test('an apply that cannot be remembered says so, and what was remembered before still counts; the same again puts it right', async () => {
  const { copy, repo, context } = fixture;
  copy.write('a', lines([3, 'one'], [20, 'a']));
  await fixture.apply();

  const inGuest = join(copy.path, '.git/banger-applied.new');
  mkdirSync(inGuest);
  copy.write('a', lines([3, 'two'], [20, 'a']));
  const { files, warnings } = await fixture.apply();
  expect(files).toMatchObject([{ path: 'a', outcome: 'applied', isWritten: true }]);
  expect(warnings).toEqual([
    expect.stringMatching(
      /^What was applied is not remembered, since VM "web" cannot write it to its disk: .*banger-applied\.new.*\. Put that right and apply again/,
    ),
  ]);
  rmdirSync(inGuest);
  expect(await fixture.apply()).toMatchObject({ files: [{ outcome: 'present' }], warnings: [] });

  const { manifests } = vmPaths(context.layout, vmId);
  const name = readdirSync(manifests).find((each) => each.endsWith('.applied'))!;
  mkdirSync(join(manifests, `${name}-next`));
  copy.write('a', lines([3, 'three'], [20, 'a']));
  expect((await fixture.apply()).warnings).toEqual([
    expect.stringContaining(`is not remembered, since "${manifests}" cannot be written to.`),
  ]);
  rmdirSync(join(manifests, `${name}-next`));
  // It was not for nothing: what was taken back since the second time is known.
  copy.write('a', lines([20, 'a']));
  repo.write('a', lines([3, 'two'], [20, 'a']));
  expect(await apply()).toEqual(['applied a']);
  expect(here('a')).toBe(lines([20, 'a']));
});

test('an engine that is killed between both halves of remembering has remembered', async () => {
  const { copy, context } = fixture;
  copy.write('a', lines([3, 'one'], [20, 'a']));
  await fixture.apply();
  const { manifests } = vmPaths(context.layout, vmId);
  const name = readdirSync(manifests).find((each) => each.endsWith('.applied'))!;
  renameSync(join(manifests, name), join(manifests, `${name}-next`));
  copy.write('a', lines([3, 'two'], [20, 'a']));
  expect(await apply()).toEqual(['applied a']);
  copy.write('a', lines([20, 'a']));
  expect(await apply()).toEqual(['applied a']);
  expect(readdirSync(manifests).filter((each) => each.includes('applied'))).toEqual([]);
});

test('what was applied and is nowhere any more, in no file and no repository, is compared with what was sent', async () => {
  const { copy, repo } = fixture;
  copy.write('a', lines([3, 'guest'], [20, 'a']));
  await fixture.apply();
  repo.write('a', lines([3, 'guest'], [10, 'host'], [20, 'a']));
  copy.write('a', lines([3, 'guest'], [17, 'guest'], [20, 'a']));
  await fixture.export();
  copy.git('gc', '-q', '--prune=now');
  expect(await apply()).toEqual(['merged a']);
  expect(here('a')).toBe(lines([3, 'guest'], [10, 'host'], [17, 'guest'], [20, 'a']));
});
