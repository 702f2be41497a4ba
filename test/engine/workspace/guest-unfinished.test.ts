import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { exportWorkspace } from '../../../src/engine/workspace/export-workspace.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

let fixture: Fixture;
/** A commit on a branch that only the guest has, which changes the same line as its HEAD */
let side: string;
beforeEach(async () => {
  fixture = createFixture();
  const { repo, copy } = fixture;
  repo.write('both', 'sent\n');
  repo.write('only here', 'sent\n');
  repo.write('other', 'sent\n');
  repo.commit('first');
  await fixture.prepare();
  copy.git('switch', '-q', '-c', 'side');
  copy.write('both', 'side\n');
  side = copy.commit('on the side');
  copy.git('switch', '-q', 'main');
  copy.write('both', 'main\n');
  copy.commit('on main');
  copy.write('both', 'main, again\n');
  copy.write('other', 'guest\n');
  copy.commit('more on main');
});
afterEach(() => fixture.remove());

const apply = (markers = false) => fixture.apply({ markers });
const here = (name: string): string => readFileSync(join(fixture.repo.path, name), 'utf8');

const begin: Record<string, () => void> = {
  merge: () => void fixture.copy.git('merge', '-q', side),
  'cherry-pick': () => void fixture.copy.git('cherry-pick', side),
  revert: () => void fixture.copy.git('revert', '--no-edit', 'main~1'),
  rebase: () => void fixture.copy.git('rebase', '-q', side),
  'git am': () => {
    const { copy } = fixture;
    const mail = copy.git('format-patch', '-1', '--stdout', side);
    copy.write('mail', mail);
    copy.git('am', '-q', '-3', 'mail');
  },
};

test('whatever git is in the middle of in the guest is told, with the conflicts', async () => {
  const { copy } = fixture;
  for (const [name, run] of Object.entries(begin)) {
    expect(run).toThrow();
    rmSync(join(copy.path, 'mail'), { force: true });
    expect((await fixture.export()).warnings).toEqual([
      `In VM "web", git is in the middle of a ${name}: files are taken as they are now, with conflicts that are not resolved: "both"`,
    ]);
    copy.git(name.replace('git ', ''), '--abort');
    expect((await fixture.export()).warnings).toEqual([]);
  }
});

test('no conflict markers are taken unasked, and nothing is sent that would take the middle away', async () => {
  const { repo, copy } = fixture;
  expect(begin['rebase']).toThrow();
  const before = copy.git('status', '--porcelain=v2');
  const unfinished = 'In VM "web", git is in the middle of a rebase: files are taken as they are now';
  const exported = await fixture.export();
  expect(Buffer.from(exported.patch, 'base64').toString()).toContain('+<<<<<<< ');

  const result = await apply();
  expect(result).toMatchObject({ isApplied: false, hasConflicts: true, warnings: exported.warnings });
  expect(result.files.find(({ path }) => path === 'both')).toMatchObject({
    outcome: 'conflict',
    reason: 'Merge conflict in both, which nobody has marked as resolved (git add) in VM "web"',
  });
  expect(here('both')).toBe('sent\n');
  expect(copy.git('status', '--porcelain=v2')).toBe(before);

  // A file that is none of its business arrives; what would take it away does not.
  repo.write('only here', 'more\n');
  await fixture.prepare();
  expect(readFileSync(join(copy.path, 'only here'), 'utf8')).toBe('more\n');
  expect(copy.git('diff', '--name-only', '--diff-filter=U')).toBe('both\n');
  repo.commit('second');
  await expect(fixture.prepare()).rejects.toThrow('has a merge or the like under way that would be lost');

  copy.write('both', 'resolved\n');
  copy.git('add', 'both');
  const resolved = await apply();
  expect(resolved).toMatchObject({
    isApplied: true,
    hasConflicts: false,
    warnings: [unfinished],
  });
  expect(here('both')).toBe('resolved\n');
});

test('mails are of the commits that a rebase has made so far, which is said; markers can be asked for', async () => {
  expect(begin['rebase']).toThrow();
  const pieces: Buffer[] = [];
  const write = async (piece: Buffer): Promise<void> => void pieces.push(piece);
  const head = await exportWorkspace(
    fixture.context,
    { path: fixture.repo.path, format: 'commits' },
    fixture.operation,
    { write },
  );
  expect(head.commits?.map(({ subject }) => subject)).toEqual(['on the side']);
  expect(head.warnings).toEqual([
    'In VM "web", git is in the middle of a rebase: mails are of the commits that are there now, with conflicts that are not resolved: "both"',
  ]);
  expect(await apply(true)).toMatchObject({ isApplied: true, hasConflicts: true });
  expect(here('both')).toContain('<<<<<<< ');
});

test('conflicts that a stash left in the guest are told, too', async () => {
  const { copy } = fixture;
  copy.write('both', 'stashed\n');
  copy.git('stash', '-q');
  copy.git('reset', '-q', '--hard', side);
  expect(() => copy.git('stash', 'pop', '-q')).toThrow();
  expect((await fixture.export()).warnings).toEqual([
    'Files in VM "web" have conflicts that are not resolved: "both"',
  ]);
  expect(await apply()).toMatchObject({ isApplied: false, hasConflicts: true });
});
