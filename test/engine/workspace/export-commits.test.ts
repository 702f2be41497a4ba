import { execFileSync } from 'node:child_process';
import { chmodSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { exportWorkspace } from '../../../src/engine/workspace/export-workspace.ts';
import { gitEnvironment } from '../../support/git-repo.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

/** Many runs of git, each a process. */
vi.setConfig({ testTimeout: 300_000 });

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
  execFileSync('git', ['am', '-q', '--keep-cr'], { cwd: fixture.repo.path, env, input: mbox });
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
  const { commits, merged, files, warnings, mbox } = await exportCommits();
  expect(commits?.map(({ subject }) => subject)).toEqual(['binary', 'second: größe']);
  expect(merged).toEqual([]);
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

/** What `git am` made of the mails, in a clone of what was sent. */
function expectSameTree(mbox: Buffer): void {
  am(mbox);
  const { copy, repo } = fixture;
  expect(repo.git('rev-parse', 'HEAD^{tree}')).toBe(copy.git('rev-parse', 'HEAD^{tree}'));
}

test('a merge is one mail with all that it brought, whatever its sides had in common; the other commits are named', async () => {
  const { copy } = fixture;
  copy.write('both', Array.from({ length: 9 }, (_, index) => `${index}\n`).join(''));
  copy.commit('both');
  copy.git('checkout', '-qb', 'side');
  copy.write('b', 'side\n');
  copy.write('both', copy.git('show', 'HEAD:both').replace('5', 'side'));
  copy.git('commit', '-qam', 'side');
  copy.git('checkout', '-q', 'main');
  copy.write('a', 'main\n');
  copy.write('both', copy.git('show', 'HEAD:both').replace('5', 'main'));
  copy.git('commit', '-qam', 'main');
  expect(() => copy.git('merge', '-q', '-m', 'both', 'side')).toThrow();
  copy.write('both', 'resolved by hand\n');
  copy.git('commit', '-qam', 'merged');
  copy.write('after', 'after\n');
  copy.commit('after');
  const { commits, merged, mbox } = await exportCommits();
  expect(commits?.map(({ subject }) => subject)).toEqual(['both', 'main', 'merged', 'after']);
  expect(merged?.map(({ subject }) => subject)).toEqual(['side']);
  expectSameTree(mbox);
});

test('every kind of change and name arrives by git am, exactly; commits without a change are named', async () => {
  const { copy, repo } = fixture;
  for (const [name, value] of [
    ['diff.submodule', 'log'],
    ['diff.renames', 'copies'],
    ['diff.external', 'false'],
    ['format.pretty', 'oneline'],
    ['format.signature', 'From me'],
    ['i18n.logOutputEncoding', 'latin1'],
  ] as const)
    copy.git('config', name, value);
  copy.write('crlf', 'one\r\ntwo\r\n');
  copy.write('no-end', 'no line end');
  copy.write('binary', Buffer.from(Array.from({ length: 4096 }, (_, index) => (index * 7) % 256)));
  copy.commit('files');
  copy.git('commit', '-q', '--allow-empty', '-m', 'nothing');
  copy.git('mv', 'a', 'grö ße\n"x"');
  chmodSync(join(copy.path, 'b'), 0o755);
  symlinkSync('../outside', join(copy.path, 'link'));
  rmSync(join(copy.path, 'no-end'));
  copy.write('crlf', 'one\r\nthree\r\n');
  copy.write('binary', Buffer.from(Array.from({ length: 4096 }, (_, index) => (index * 5) % 256)));
  copy.git('add', '-A');
  const author = 'Zoë Ω. Ünï <zoe@example.com>';
  const message =
    'größe: ünïcode \u{1f427} subject that is so long that a mail has to fold it over more than a single line\n\nFrom here on, a body.\n';
  copy.git('commit', '-q', `--author=${author}`, '-m', message);
  const { commits, warnings, mbox } = await exportCommits();
  expect(commits).toHaveLength(2);
  expect(warnings).toEqual([
    expect.stringMatching(/^A commit that changes nothing has no mail: [0-9a-f]{12} nothing$/),
  ]);
  expectSameTree(mbox);
  const format = '--format=%an%n%ae%n%ad%n%B';
  expect(repo.git('log', '-1', format)).toBe(copy.git('log', '-1', format));
  repo.git('fsck', '--strict');
});

test('a commit of one odd thing is a mail that is what its commit is', async () => {
  const { copy } = fixture;
  const changes: readonly [string, () => void][] = [
    ['an empty file', () => copy.write('empty', '')],
    ['nothing but a mode', () => chmodSync(join(copy.path, 'empty'), 0o755)],
    ['its end', () => rmSync(join(copy.path, 'empty'))],
    ['a name', () => copy.git('mv', 'a', 'sp ace"q\\t"\n\ttab')],
    [
      'bytes for a name',
      () => writeFileSync(Buffer.concat([Buffer.from(`${copy.path}/f`), Buffer.from([0xff, 0xfe])]), 'x\n'),
    ],
    ['a symlink for a file', () => (rmSync(join(copy.path, 'b')), symlinkSync('c', join(copy.path, 'b')))],
    ['what looks like a mail', () => copy.write('mail', mail)],
    ['line ends', () => copy.write('crlf', 'one\r\n\r\n-- \r\nFrom: x\r\n')],
    ['bytes', () => copy.write('bytes', Buffer.from([0, 13, 10, 255]))],
  ];
  const mail = `From ${'a'.repeat(40)} Mon Sep 17 00:00:00 2001\n---\ndiff --git a/x b/x\n-- \n2.39.0\n`;
  for (const [subject, change] of changes) {
    change();
    copy.git('add', '-A');
    copy.git('commit', '-q', '-m', `${subject}\n\nWith [brackets] and = signs, größe.`);
  }
  const oid = copy.git('rev-parse', 'HEAD').trim();
  copy.git('update-index', '--add', '--cacheinfo', `160000,${oid},repository`);
  copy.git('commit', '-q', '-m', 'a repository');
  const { commits, warnings, mbox } = await exportCommits();
  expect(commits).toHaveLength(changes.length + 1);
  expect(warnings.join()).not.toContain('compared');
  expectSameTree(mbox);
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

test('what a sparse checkout leaves out is not told as deleted, here or in the guest', async () => {
  const { copy, repo } = fixture;
  for (const name of ['in/a', 'out/b', 'out/größe', 'odd\n/c']) repo.write(name, 'one\n');
  repo.commit('more');
  repo.git('sparse-checkout', 'set', 'in');
  await fixture.prepare({ overwrite: true });
  copy.write('in/a', 'two\n');
  copy.git('commit', '-qam', 'in the cone');
  copy.write('out/b', 'made there\n');
  copy.write('odd\n', 'a file in its place\n');
  const { files } = await exportCommits();
  expect(files.map(({ status, path }) => `${status} ${path}`)).toEqual(['added odd\n', 'modified out/b']);
});

test('a checkout that is made sparse in the guest has deleted nothing', async () => {
  const { copy, repo } = fixture;
  for (const name of ['in/a', 'out/b', 'out/c']) repo.write(name, 'one\n');
  repo.commit('more');
  await fixture.prepare();
  copy.git('sparse-checkout', 'set', 'in');
  copy.write('in/a', 'two\n');
  expect((await fixture.export()).files.map(({ path }) => path)).toEqual(['in/a']);
  // As before, now that git has been asked once.
  expect((await fixture.export()).files.map(({ path }) => path)).toEqual(['in/a']);
  await fixture.apply();
  expect(repo.git('status', '--porcelain')).toBe(' M in/a\n');
});

const evil =
  'diff --git a/evil b/evil\nnew file mode 100644\n--- /dev/null\n+++ b/evil\n@@ -0,0 +1 @@\n+evil\n';

test.each([
  ['ends for git am, and a patch follows', '', `---\n\n${evil}`],
  ['has a patch without that', '', `text\n${evil}`],
  ['has a patch after a line with a space', ' ', `text\n${evil}`],
  ['has a patch after a line with a tab and a return', '\t\r', evil],
  [
    'has another mail in it',
    '',
    `From ${'0'.repeat(40)} Mon Sep 17 00:00:00 2001\nSubject: evil\n\n---\n${evil}`,
  ],
  ['names another author', '', 'From: Somebody Else <else@example.com>\n\ntext\n'],
])('a commit whose message %s is named, and no mail made', async (_, blank, message) => {
  const { copy, guestPath } = fixture;
  copy.write('b', 'changed\n');
  copy.git('commit', '-q', '-a', '--cleanup=verbatim', '-m', `subject\n${blank}\n${message}`);
  const oid = copy.git('rev-parse', '--short=12', 'HEAD').trim();
  await expect(exportCommits()).rejects.toMatchObject({
    code: 'invalid_state',
    message: `git am would take a line of a message for the beginning of a patch, a mail or a header: ${oid} subject`,
    hint: `Fetch the commits instead: git fetch banger::web${guestPath}`,
  });
});

test('messages with lines that only look like it arrive whole', async () => {
  const { copy, repo } = fixture;
  const message =
    'diff -u\n---\n\ntext\n--- --\n----\n --- a\nFrom here on\nIndex of\n\nFrom: me\ndifferent\n';
  copy.write('b', 'changed\n');
  copy.git('commit', '-q', '-a', '--cleanup=verbatim', '-m', message.replace('--- --\n', ''));
  const { mbox } = await exportCommits();
  am(mbox);
  expect(repo.git('log', '-1', '--format=%b')).toBe(copy.git('log', '-1', '--format=%b'));
});

test('what was changed here before is nothing that is not committed there', async () => {
  const { repo, copy } = fixture;
  repo.write('a', 'dirty here\n');
  repo.write('untracked', 'here\n');
  await fixture.prepare({ includeUntracked: true });
  copy.write('b', 'changed\n');
  copy.git('commit', '-q', '-m', 'in the guest', 'b');
  expect((await exportCommits()).files).toEqual([]);
  copy.write('a', 'dirty there\n');
  expect((await exportCommits()).files.map(({ path }) => path)).toEqual(['a']);
});
