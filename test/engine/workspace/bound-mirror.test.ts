import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { defaultBounds, type MirrorBounds } from '../../../src/engine/workspace/guest-tree/bound-mirror.ts';
import { fetchIntoMirror } from '../../../src/engine/workspace/guest-tree/fetch-mirror.ts';
import { listWorkspaces } from '../../../src/state/workspaces.ts';
import { packBomb } from '../../support/bombs.ts';
import { createFakeGuest } from '../../support/fake-guest.ts';
import { createRepo, wholeTree } from '../../support/git-repo.ts';
import { createFixture, vmId, type Fixture } from './workspace-fixture.ts';

// Many runs of git, on some hundred megabytes.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 60_000 });

const mib = 1024 ** 2;
/** Of the file that the bomb unpacks to */
const bombBytes = 8 * 0xff_ff_ff;
let fixture: Fixture;

/** A guest whose last commit has a file of 128 MiB, which its git sends as a delta in a pack of a few kilobytes. */
beforeEach(async () => {
  fixture = createFixture();
  const { repo, copy } = fixture;
  repo.write('file', 'one\n');
  repo.commit('first');
  await fixture.prepare();
  execFileSync('git', ['index-pack', '--stdin'], { cwd: copy.path, input: packBomb(8), stdio: 'pipe' });
  const list = copy.git('cat-file', '--batch-all-objects', '--batch-check').split('\n');
  // With what it is a delta of, since it would travel as a whole without.
  for (const [name, bytes] of [
    ['bomb', bombBytes],
    ['base', 0xff_ff_ff],
  ] as const) {
    const oid = list.find((line) => line.endsWith(` blob ${bytes}`))!.split(' ')[0]!;
    copy.git('update-index', '--add', '--cacheinfo', `100644,${oid},${name}`);
  }
  copy.git('commit', '-q', '-m', 'bomb');
  copy.git('update-index', '--skip-worktree', 'bomb', 'base');
});
afterEach(() => fixture.remove());

async function fetchWith(bounds: Partial<MirrorBounds>, name: string): Promise<string> {
  const { context, directory, guestPath, repo, operation } = fixture;
  const workspace = {
    guest: createFakeGuest().guest,
    ensureGit: async () => 'git',
    guestPath,
    baseTree: repo.git('rev-parse', 'HEAD^{tree}').trim(),
    vmName: 'web',
    signal: operation.signal,
  };
  const mirror = join(directory, name);
  const sent = listWorkspaces(context.db, vmId)[0]!;
  const wanted = { workspace, sent, mirror, bounds: { ...defaultBounds, ...bounds } };
  await fetchIntoMirror(context, wanted, operation);
  return mirror;
}

/** Sizes of the objects of a repository that are there as deltas. */
function deltaSizes(repository: string): number[] {
  const list = ['cat-file', '--batch-all-objects', '--batch-check=%(deltabase) %(objectsize)'];
  const lines = execFileSync('git', list, { cwd: repository, encoding: 'utf8' }).trim().split('\n');
  return lines.filter((line) => !/^0+ /.test(line)).map((line) => Number(line.split(' ')[1]));
}

test('A24: a file that a few kilobytes unpack to is refused when it is too large for git here', async () => {
  const before = wholeTree(fixture.repo.path);
  await expect(fetchWith({ objectBytes: 100 * mib }, 'a.git')).rejects.toMatchObject({
    code: 'command_failed',
    message: 'VM "web" has a file of 128 MiB that git here would have to take, more than 100 MiB',
    hint: expect.stringContaining('banger workspace export') as string,
  });
  await expect(fetchWith({ largeBytes: 120 * mib }, 'b.git')).rejects.toThrow(
    'has large files of 128 MiB that git here would have to take, more than 120 MiB',
  );
  expect(wholeTree(fixture.repo.path)).toBe(before);
});

test('one that is not is served as a whole, since git works out deltas in many threads; small ones stay deltas', async () => {
  const { copy, directory } = fixture;
  const line = (at: number): string => `${at} ${'x'.repeat(at % 97)}\n`;
  const lines = Array.from({ length: 4000 }, (_, at) => line(at));
  copy.write('small', lines.join(''));
  copy.git('add', 'small');
  copy.git('commit', '-q', '-m', 'small');
  copy.write('small', ['another\n', ...lines].join(''));
  copy.git('add', 'small');
  copy.git('commit', '-q', '-m', 'small again');
  const mirror = await fetchWith({}, 'mirror.git');
  const deltas = deltaSizes(mirror);
  expect(deltas.length).toBeGreaterThan(0);
  expect(Math.max(...deltas)).toBeLessThan(defaultBounds.deltaBytes);
  // Git on the host gets it as it is there.
  const other = createRepo(join(directory, 'other'));
  other.git('-c', 'fetch.unpackLimit=1', 'fetch', '-q', mirror, 'refs/heads/*:refs/vm/*');
  expect(other.git('cat-file', '-s', 'vm/main:bomb').trim()).toBe(String(bombBytes));
  expect(Math.max(0, ...deltaSizes(other.path))).toBeLessThan(defaultBounds.deltaBytes);
});
