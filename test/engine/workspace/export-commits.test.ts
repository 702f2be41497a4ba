import { execFileSync } from 'node:child_process';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { exportWorkspace } from '../../../src/engine/workspace/export-workspace.ts';
import { gitEnvironment } from '../../support/git-repo.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

let fixture: Fixture;
beforeEach(async () => {
  fixture = createFixture();
  const { repo } = fixture;
  repo.write('a', 'a\n');
  repo.write('b', 'b\n');
  repo.commit('first');
  await fixture.prepare();
});
afterEach(() => fixture.remove());

async function exportCommits() {
  const { context, operation, repo } = fixture;
  const pieces: Buffer[] = [];
  const head = await exportWorkspace(context, { path: repo.path, format: 'commits' }, operation, {
    write: async (piece) => void pieces.push(piece),
  });
  return { ...head, mbox: Buffer.concat(pieces) };
}

function am(mbox: Buffer): void {
  const env = { PATH: process.env['PATH'], ...gitEnvironment };
  execFileSync('git', ['am', '-q'], { cwd: fixture.repo.path, env, input: mbox });
}

test("the guest's commits arrive by git am, whatever it configures mails to look like; what is not committed is named", async () => {
  const { copy, repo } = fixture;
  copy.git('config', 'format.attach', 'true');
  copy.git('config', 'format.headers', 'X-Evil: yes');
  copy.git('config', 'format.subjectPrefix', 'EVIL');
  copy.git('config', 'diff.noprefix', 'true');
  copy.write('a', Buffer.from([0, 255, 1]));
  copy.git('commit', '-qam', 'binary');
  copy.write('c', 'größe\n');
  copy.git('add', 'c');
  copy.git('commit', '-qm', 'second: größe');
  copy.write('loose', 'loose\n');
  const { commits, merges, files, warnings, mbox } = await exportCommits();
  expect(commits?.map(({ subject }) => subject)).toEqual(['binary', 'second: größe']);
  expect(merges).toEqual([]);
  expect(warnings).toEqual([]);
  expect(files).toEqual([{ path: 'loose', status: 'added', added: 1, removed: 0 }]);
  expect(mbox.toString()).not.toMatch(/X-Evil|EVIL/);
  am(mbox);
  expect(repo.git('rev-parse', 'HEAD^{tree}')).toBe(copy.git('rev-parse', 'HEAD^{tree}'));
  expect(repo.git('log', '--format=%s %an', '-2')).toBe(copy.git('log', '--format=%s %an', '-2'));
});

test('no new commits: no mails', async () => {
  fixture.copy.write('a', 'loose\n');
  const { commits, files, mbox } = await exportCommits();
  expect(commits).toEqual([]);
  expect(files).toHaveLength(1);
  expect(mbox).toHaveLength(0);
});

test('merges are named and left out', async () => {
  const { copy } = fixture;
  copy.git('checkout', '-qb', 'side');
  copy.write('b', 'side\n');
  copy.git('commit', '-qam', 'side');
  copy.git('checkout', '-q', 'main');
  copy.write('a', 'main\n');
  copy.git('commit', '-qam', 'main');
  copy.git('merge', '-q', '-m', 'both', 'side');
  const { commits, merges, mbox } = await exportCommits();
  expect(commits?.map(({ subject }) => subject).toSorted()).toEqual(['main', 'side']);
  expect(merges?.map(({ subject }) => subject)).toEqual(['both']);
  am(mbox);
  expect(fixture.repo.git('rev-parse', 'HEAD^{tree}')).toBe(copy.git('rev-parse', 'HEAD^{tree}'));
});

test('a history that was rewritten is said to be', async () => {
  const { copy } = fixture;
  copy.write('a', 'amended\n');
  copy.git('commit', '-qa', '--amend', '-m', 'amended');
  const { commits, warnings } = await exportCommits();
  expect(commits?.map(({ subject }) => subject)).toEqual(['amended']);
  expect(warnings).toEqual([expect.stringContaining('History was rewritten in the VM')]);
});

test('of a tree that had no commit yet, all commits come', async () => {
  const unborn = createFixture();
  try {
    unborn.repo.write('a', 'a\n');
    unborn.repo.git('add', 'a');
    await unborn.prepare();
    fixture.remove();
    fixture = unborn;
    expect((await exportCommits()).commits).toEqual([]);
    unborn.copy.git('commit', '-qm', 'the first');
    const { commits, files, mbox } = await exportCommits();
    expect(commits?.map(({ subject }) => subject)).toEqual(['the first']);
    expect(files).toEqual([]);
    expect(mbox.toString()).toContain('+a\n');
  } finally {
    if (fixture !== unborn) unborn.remove();
  }
});
