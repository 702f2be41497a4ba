import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { exportWorkspace } from '../../../src/engine/workspace/export-workspace.ts';
import { withSpool } from '../../../src/engine/workspace/spool.ts';
import { moveVm } from '../../../src/state/vms.ts';
import { createRepo } from '../../support/git-repo.ts';
import { applyPatch, createFixture, notTaken, vmId, type Fixture } from './workspace-fixture.ts';

/** Files of ours in a repository. */
const ours = (path: string): string[] =>
  readdirSync(join(path, '.git')).filter((name) => name.startsWith('banger'));
const nowhere = { write: async () => undefined };

let fixture: Fixture;
beforeEach(async () => {
  fixture = createFixture();
  const { repo } = fixture;
  for (const name of ['edited', 'committed', 'removed', 'moved', 'mode', 'typed', 'dirty'])
    repo.write(name, `${name}\n`.repeat(9));
  repo.write('.gitignore', 'ignored\n');
  repo.write('binary', Buffer.from([0, 1, 2, 255]));
  repo.commit('first');
  repo.write('dirty', 'dirty on the host\n');
  await fixture.prepare();
});
afterEach(() => fixture.remove());

test('all that happened in the guest comes back as one patch: commits, staged and loose changes, new files', async () => {
  const { repo, copy } = fixture;
  const sent = ours(copy.path);
  copy.write('committed', 'committed in the guest\n');
  copy.git('commit', '-qam', 'in the guest, with the dirty file of the host');
  copy.write('edited', 'staged\n');
  copy.git('add', 'edited');
  copy.write('edited', 'loose\n');
  copy.write('dirty', 'dirty on both\n');
  copy.write('new/deep/file', 'new\n');
  copy.write('binary', Buffer.from([0, 255, 3]));
  copy.write('ignored', 'stays\n');
  rmSync(join(copy.path, 'removed'));
  copy.git('mv', 'moved', 'moved-here');
  chmodSync(join(copy.path, 'mode'), 0o755);
  rmSync(join(copy.path, 'typed'));
  symlinkSync('edited', join(copy.path, 'typed'));

  const before = {
    index: readFileSync(join(copy.path, '.git/index')),
    status: copy.git('status', '--porcelain=v2'),
  };
  const { files } = await fixture.exportAndApply();
  expect(readFileSync(join(copy.path, '.git/index'))).toEqual(before.index);
  expect(copy.git('status', '--porcelain=v2')).toBe(before.status);
  // As it was sent: what git knows of the files makes it faster the next time.
  expect(ours(copy.path)).toEqual(sent);

  expect(files.map((file) => `${file.status} ${file.path}`)).toEqual([
    'modified binary',
    'modified committed',
    'modified dirty',
    'modified edited',
    'modified mode',
    'deleted moved',
    'added moved-here',
    'added new/deep/file',
    'deleted removed',
    'type-changed typed',
  ]);
  expect(files.find((file) => file.path === 'edited')).toEqual({
    path: 'edited',
    status: 'modified',
    added: 1,
    removed: 9,
  });
  expect(files.find((file) => file.path === 'binary')).toEqual({ path: 'binary', status: 'modified' });
  expect(readFileSync(join(repo.path, 'dirty'), 'utf8')).toBe('dirty on both\n');
  expect(readFileSync(join(repo.path, 'binary'))).toEqual(Buffer.from([0, 255, 3]));
  expect(readlinkSync(join(repo.path, 'typed'))).toBe('edited');
  expect(lstatSync(join(repo.path, 'mode')).mode & 0o111).toBe(0o111);
  expect(existsSync(join(repo.path, 'ignored'))).toBe(false);
});

test('nothing changed: an empty patch', async () => {
  expect(await fixture.export()).toMatchObject({ patch: '', files: [], warnings: [] });
});

test('what the guest configures does not run, or change what the patch says', async () => {
  const { copy, directory } = fixture;
  const trap = join(directory, 'trap.sh');
  writeFileSync(trap, `#!/bin/sh\necho "$0" >> ${directory}/ran\n`, { mode: 0o755 });
  copy.write('edited', 'x\n');
  copy.git('config', 'core.fsmonitor', trap);
  copy.git('config', 'diff.external', trap);
  copy.git('config', 'diff.evil.textconv', trap);
  copy.git('config', 'diff.evil.command', trap);
  copy.git('config', 'diff.noprefix', 'true');
  copy.git('config', 'color.ui', 'always');
  copy.write('.gitattributes', '* diff=evil\n');
  for (const hook of ['post-index-change', 'pre-commit']) {
    copy.write(`.git/hooks/${hook}`, `#!/bin/sh\necho "$0" >> ${directory}/ran\n`, 0o755);
  }
  await fixture.exportAndApply();
  expect(existsSync(join(directory, 'ran'))).toBe(false);
});

test('a repository made inside the workspace is named, and is not in the patch', async () => {
  const { copy } = fixture;
  const nested = createRepo(join(copy.path, 'vendor/lib'));
  nested.write('a', 'a\n');
  nested.commit('nested');
  copy.write('edited', 'x\n');
  const result = await fixture.exportAndApply();
  expect(result.files.map((file) => file.path)).toEqual(['edited']);
  expect(result.warnings).toEqual([notTaken(fixture, 'vendor/lib', 'in the patch')]);
});

test('changes inside a repository of its own are named though its commit is the same; one without a commit is, too', async () => {
  const { copy } = fixture;
  const nested = createRepo(join(copy.path, 'vendor/lib'));
  nested.write('a', 'a\n');
  nested.commit('nested');
  copy.git('add', 'vendor/lib');
  createRepo(join(copy.path, 'empty'));
  // As if it had been sent so.
  const base = copy.git('write-tree').trim();
  fixture.context.db.prepare('UPDATE workspaces SET base_tree = ?').run(base);
  rmSync(join(copy.path, '.git/banger-known-index'), { recursive: true, force: true });
  nested.write('a', 'changed\n');
  const { warnings, files } = await fixture.export();
  expect(files.map((file) => file.path)).toEqual(['dirty']);
  expect(warnings.toSorted()).toEqual([
    notTaken(fixture, 'empty', 'in the patch'),
    notTaken(fixture, 'vendor/lib', 'in the patch'),
  ]);
});

test('files that the guest told git not to look at are looked at; those that git has as conflicts, as they are', async () => {
  const { copy } = fixture;
  copy.git('update-index', '--assume-unchanged', 'edited');
  copy.git('update-index', '--skip-worktree', 'dirty');
  copy.write('edited', 'x\n');
  copy.write('dirty', 'x\n');
  copy.git('checkout', '-qb', 'side');
  copy.write('committed', 'side\n');
  copy.git('commit', '-qm', 'side', 'committed');
  copy.git('checkout', '-q', 'main');
  copy.write('committed', 'main\n');
  copy.git('commit', '-qm', 'main', 'committed');
  expect(() => copy.git('merge', '-q', 'side')).toThrow();
  const { files } = await fixture.exportAndApply();
  expect(files.map((file) => file.path)).toEqual(['committed', 'dirty', 'edited']);
  expect(readFileSync(join(fixture.repo.path, 'committed'), 'utf8')).toContain('<<<<<<<');
});

test('a file that was sent and is ignored now is not taken for deleted; one that was forced into git comes along', async () => {
  const { copy } = fixture;
  copy.write('.gitignore', 'ignored\nedited\nmode\n');
  copy.git('rm', '-q', '--cached', 'edited');
  copy.git('rm', '-q', 'mode');
  copy.write('ignored', 'forced\n');
  copy.git('add', '-f', 'ignored');
  const { files } = await fixture.exportAndApply();
  expect(files.map((file) => `${file.status} ${file.path}`)).toEqual([
    'modified .gitignore',
    'added ignored',
    'deleted mode',
  ]);
});

test('an index of ours that is broken, or left over, is no obstacle', async () => {
  const { copy } = fixture;
  copy.write('edited', 'x\n');
  await fixture.export();
  copy.write('.git/banger-known-index', 'nonsense');
  copy.write('.git/banger-export-index.1.lock', '');
  expect((await fixture.export()).files.map((file) => file.path)).toEqual(['edited']);
  expect(ours(copy.path)).toEqual([
    'banger-known-index',
    'banger-known-paths',
    'banger-own-index',
    'banger-quiet',
    'banger-sent',
  ]);
});

test('a patch of any length arrives whole', async () => {
  const { copy, repo } = fixture;
  const noise = randomBytes(6 * 1024 * 1024);
  copy.write('noise', noise);
  const { context, operation } = fixture;
  await withSpool(context.layout, async (spool) => {
    await exportWorkspace(context, { path: repo.path }, operation, spool);
    expect(spool.sizeBytes).toBeGreaterThan(6 * 1024 * 1024);
    const pieces = [];
    for await (const piece of spool.read()) pieces.push(piece);
    applyPatch(repo.path, Buffer.concat(pieces));
  });
  expect(readFileSync(join(repo.path, 'noise')).equals(noise)).toBe(true);
});

test('sizes of binary files come with a list', async () => {
  const { copy, context, operation, repo } = fixture;
  copy.write('binary', Buffer.from([0, 255]));
  copy.write('new', Buffer.from([0]));
  const { files } = await exportWorkspace(context, { path: repo.path, format: 'list' }, operation, nowhere);
  expect(files).toEqual([
    { path: 'binary', status: 'modified', oldBytes: 4, newBytes: 2 },
    { path: 'new', status: 'added', oldBytes: 0, newBytes: 1 },
  ]);
});

test('a guest repository that is gone is an error, also when a directory above has one', async () => {
  const { copy, directory } = fixture;
  createRepo(join(directory, 'guest'));
  rmSync(join(copy.path, '.git'), { recursive: true });
  await expect(fixture.export()).rejects.toMatchObject({ code: 'command_failed' });
});

test('paths below the tree find it, others do not; a VM alone is enough while it has one tree', async () => {
  const { context, operation, repo, directory } = fixture;
  mkdirSync(join(repo.path, 'sub'));
  expect(await exportWorkspace(context, { path: join(repo.path, 'sub') }, operation, nowhere)).toMatchObject({
    vm: 'web',
  });
  expect(await exportWorkspace(context, { vm: 'web' }, operation, nowhere)).toMatchObject({
    hostPath: repo.path,
  });
  await expect(exportWorkspace(context, { path: directory }, operation, nowhere)).rejects.toMatchObject({
    code: 'not_found',
    hint: `Send it with: banger workspace prepare ${directory}; for what VM "web" changed in "${repo.path}": banger workspace export --vm web | git apply -3`,
  });
  await expect(
    exportWorkspace(context, { path: join(repo.path, 'mistyped') }, operation, nowhere),
  ).rejects.toMatchObject({ code: 'not_found', message: expect.stringContaining('mistyped') as unknown });

  const other = createRepo(join(directory, 'other'));
  await fixture.prepare({ path: other.path, guestPath: join(directory, 'guest/other') });
  await expect(exportWorkspace(context, { vm: 'web' }, operation, nowhere)).rejects.toMatchObject({
    code: 'invalid_argument',
  });
  expect(await exportWorkspace(context, { vm: 'web', path: other.path }, operation, nowhere)).toMatchObject({
    hostPath: other.path,
  });
});

test('a VM that does not run is named, with the command that starts it', async () => {
  moveVm(fixture.context.db, vmId, 'stopped');
  await expect(fixture.export()).rejects.toMatchObject({
    code: 'invalid_state',
    message: 'VM "web" is stopped, not running',
    hint: 'Start it with: banger vm start web',
  });
});
