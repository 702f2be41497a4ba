import { existsSync, mkdirSync, rmSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { knownIndexName, knownPathsName } from '../../../src/engine/workspace/guest-tree/known-index.ts';
import { createFixture, type Exported, type Fixture } from './workspace-fixture.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });

let fixture: Fixture;
beforeEach(async () => {
  // Guests of an older build have no program of ours that tells what has changed.
  fixture = createFixture({ programs: undefined });
  const { repo } = fixture;
  repo.write('.gitignore', 'ignored\n*.log\n');
  repo.write('one', '1\n');
  repo.write('dir/two', '2\n');
  repo.write('gone', '3\n');
  repo.commit('first');
  await fixture.prepare();
});
afterEach(() => fixture.remove());

const inGit = (name: string): string => join(fixture.copy.path, '.git', name);

/** Exports twice, as it comes and after all that was known of the paths is gone: both see the same. */
async function exportBothWays(): Promise<{ readonly quick: boolean; readonly exported: Exported }> {
  const before = statSync(inGit(knownIndexName)).ino;
  const quick = existsSync(inGit(knownPathsName));
  const exported = await fixture.export();
  const isKept = quick && statSync(inGit(knownIndexName)).ino === before;
  rmSync(inGit(knownPathsName), { force: true });
  expect(await fixture.export()).toEqual(exported);
  return { quick: isKept, exported };
}

const paths = ({ files }: Exported): string[] => files.map(({ status, path }) => `${status} ${path}`);

test('edited, new and deleted files are seen at one look, and ignored ones are not', async () => {
  const { copy } = fixture;
  copy.write('one', 'changed\n');
  copy.write('new', 'new\n');
  copy.write('ignored', 'x\n');
  rmSync(join(copy.path, 'gone'));
  const { quick, exported } = await exportBothWays();
  expect(quick).toBe(true);
  expect(paths(exported)).toEqual(['deleted gone', 'added new', 'modified one']);
});

test.each<[string, () => void, string[]]>([
  [
    'an ignored file that is forced into the index',
    () => {
      fixture.copy.write('ignored', 'x\n');
      fixture.copy.git('add', '-f', 'ignored');
    },
    ['added ignored'],
  ],
  [
    'a file that git is told not to look at',
    () => {
      fixture.copy.git('update-index', '--assume-unchanged', 'one');
      fixture.copy.write('one', 'changed\n');
    },
    ['modified one'],
  ],
  [
    'a file that is sent and ignored now',
    () => {
      fixture.copy.write('.gitignore', 'one\n');
      fixture.copy.write('one', 'changed\n');
    },
    ['modified .gitignore', 'modified one'],
  ],
  [
    'a file of the same size',
    () => {
      const { mtime } = statSync(join(fixture.copy.path, 'one'));
      fixture.copy.write('one', '9\n');
      utimesSync(join(fixture.copy.path, 'one'), mtime, new Date(mtime.getTime() + 5_000));
    },
    ['modified one'],
  ],
])('%s is seen, now and the next time', async (_, change, expected) => {
  change();
  expect(paths((await exportBothWays()).exported)).toEqual(expected);
  expect(paths((await exportBothWays()).exported)).toEqual(expected);
});

test('a repository that somebody makes inside is looked into', async () => {
  const { copy } = fixture;
  mkdirSync(join(copy.path, 'inner'));
  copy.git('init', '-q', 'inner');
  copy.write('inner/file', 'x\n');
  expect((await exportBothWays()).exported.warnings).toEqual([
    expect.stringContaining('"inner" is a repository of its own'),
  ]);
  copy.git('-C', 'inner', 'add', 'file');
  copy.git('-C', 'inner', '-c', 'user.name=a', '-c', 'user.email=a@b', 'commit', '-qm', 'inner');
  copy.write('inner/file', 'y\n');
  const exported = await fixture.export();
  expect(await fixture.export()).toEqual(exported);
  expect(exported.warnings).toEqual([expect.stringContaining('"inner" is a repository of its own')]);
});

test('it goes on after an update of the same paths, and waits for one whole look after another', async () => {
  const { repo, copy } = fixture;
  repo.write('one', 'from the host\n');
  await fixture.prepare();
  copy.write('dir/two', 'from the guest\n');
  expect(await exportBothWays()).toMatchObject({ quick: true, exported: { files: [{ path: 'dir/two' }] } });
  copy.write('dir/two', '2\n');

  repo.write('another.log', 'sent although ignored\n');
  repo.git('add', '-f', 'another.log');
  await fixture.prepare();
  copy.write('another.log', 'changed\n');
  copy.write('third.log', 'ignored\n');
  expect(await exportBothWays()).toMatchObject({
    quick: false,
    exported: { files: [{ path: 'another.log' }] },
  });
  // That one has made sure of the paths.
  copy.write('another.log', 'changed again\n');
  expect(await exportBothWays()).toMatchObject({
    quick: true,
    exported: { files: [{ path: 'another.log' }] },
  });
});

test('a dirty tree with files of its own is read whole once', async () => {
  const { repo, copy } = fixture;
  repo.write('untracked', 'u\n');
  rmSync(join(repo.path, 'gone'));
  await fixture.prepare({ includeUntracked: true, overwrite: true });
  copy.write('untracked', 'changed\n');
  copy.write('gone', 'back\n');
  const { quick, exported } = await exportBothWays();
  expect(quick).toBe(false);
  expect(paths(exported)).toEqual(['added gone', 'modified untracked']);
});
