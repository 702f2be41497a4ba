import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { WorkspaceContext } from '../../../src/engine/context.ts';
import type { Guest } from '../../../src/engine/guest.ts';
import { findWorkspacesByHostPath } from '../../../src/state/workspaces.ts';
import { createFixture, vmId, type Fixture } from './workspace-fixture.ts';

let fixture: Fixture;
beforeEach(() => {
  fixture = createFixture();
});
afterEach(() => fixture.remove());

test('nothing of the host repository runs: not its hooks, file system monitor or filters', async () => {
  const { repo, directory } = fixture;
  const trap = join(directory, 'trap.sh');
  writeFileSync(trap, `#!/bin/sh\necho "$0" >> ${directory}/ran\ncat\n`, { mode: 0o755 });
  repo.write('.gitattributes', '*.bin filter=evil diff=evil\n');
  repo.write('a.bin', 'raw\n');
  repo.commit('first');
  repo.git('config', 'core.fsmonitor', trap);
  for (const kind of ['clean', 'smudge', 'process']) repo.git('config', `filter.evil=x.${kind}`, trap);
  for (const kind of ['clean', 'smudge']) repo.git('config', `filter.evil.${kind}`, trap);
  repo.git('config', 'diff.evil.command', trap);
  repo.git('config', 'core.sshCommand', trap);
  for (const hook of ['post-index-change', 'pre-commit', 'post-checkout', 'fsmonitor-watchman']) {
    repo.write(`.git/hooks/${hook}`, `#!/bin/sh\necho "$0" >> ${directory}/ran\n`, 0o755);
  }
  repo.write('a.bin', 'changed\n');
  const result = await fixture.prepare();
  expect(existsSync(join(directory, 'ran'))).toBe(false);
  expect(result.warnings).toEqual([
    expect.stringContaining('"git diff" here shows changes by a program of this host (diff.evil.command)'),
    expect.stringContaining('through a git filter of this host'),
  ]);
  expect(existsSync(join(fixture.guestPath, '.git/hooks'))).toBe(false);
  expect(readFileSync(join(fixture.guestPath, '.git/config'), 'utf8')).not.toContain('trap');
});

test('a file that changes while being sent is sent again', async () => {
  fixture.remove();
  let changes = 1;
  fixture = createFixture({
    onRun: (argv) => {
      if (argv.some((word) => word.includes('gunzip -c')) && changes-- > 0)
        fixture.repo.write('a', 'later\n');
    },
  });
  fixture.repo.write('a', 'a\n');
  fixture.repo.commit('first');
  await fixture.prepare();
  expect(readFileSync(join(fixture.guestPath, 'a'), 'utf8')).toBe('later\n');
  expect(fixture.stages).toEqual([
    'Reading working tree',
    'Sending 1 file',
    'Reading working tree again',
    'Sending 1 file',
  ]);
});

test('a file that never stops changing is an error, and nothing is left in the guest', async () => {
  fixture.remove();
  let count = 0;
  fixture = createFixture({
    onRun: (argv) => {
      if (argv.some((word) => word.includes('gunzip -c')))
        fixture.repo.write('a', `${'x'.repeat(++count)}\n`);
    },
  });
  fixture.repo.write('a', 'a\n');
  fixture.repo.commit('first');
  await expect(fixture.prepare()).rejects.toMatchObject({
    code: 'busy',
    message: '"a" changed while being sent',
  });
  expect(existsSync(fixture.guestPath)).toBe(false);
  expect(existsSync(`${fixture.guestPath}.banger-new`)).toBe(false);
  expect(findWorkspacesByHostPath(fixture.context.db, fixture.repo.path)).toEqual([]);
});

test('a cancelled prepare leaves the tree that was there, and nothing else', async () => {
  fixture.remove();
  let sends = 0;
  const cancel = new AbortController();
  fixture = createFixture({
    onRun: (argv) => {
      if (argv.some((word) => word.includes('gunzip -c')) && ++sends === 2) cancel.abort();
    },
  });
  fixture.repo.write('a', 'a\n');
  fixture.repo.commit('first');
  Object.assign(fixture.operation, { signal: cancel.signal });
  await fixture.prepare();
  fixture.repo.write('a', 'a 2\n');
  await expect(fixture.prepare()).rejects.toMatchObject({ code: 'cancelled' });
  expect(readFileSync(join(fixture.guestPath, 'a'), 'utf8')).toBe('a\n');
  expect(readdirSync(join(fixture.directory, 'guest'))).toEqual(['project']);
});

test('a file behind a git filter travels as it is in the working tree, and counts as unchanged', async () => {
  const { repo, copy } = fixture;
  repo.git('config', 'filter.upper.clean', 'tr a-z A-Z');
  repo.write('.gitattributes', '*.up filter=upper\n');
  repo.write('a.up', 'text\n');
  repo.commit('first');
  expect(repo.git('show', 'HEAD:a.up')).toBe('TEXT\n');
  const { warnings } = await fixture.prepare();
  expect(warnings).toEqual([expect.stringContaining('"a.up" goes through a git filter')]);
  expect(readFileSync(join(copy.path, 'a.up'), 'utf8')).toBe('text\n');
  expect((await fixture.export()).files).toEqual([]);
});

test('a second prepare brings the tree up to date, unless the guest changed the same file', async () => {
  const { repo, copy, guestPath } = fixture;
  repo.write('a', 'a\n');
  repo.write('b', 'b\n');
  repo.commit('first');
  await fixture.prepare();
  repo.write('a', 'a 2\n');
  rmSync(join(repo.path, 'b'));
  await fixture.prepare();
  expect(existsSync(join(copy.path, 'b'))).toBe(false);

  copy.write('a', 'guest\n');
  copy.git('commit', '-qam', 'in the guest');
  repo.write('a', 'a 3\n');
  await expect(fixture.prepare()).rejects.toMatchObject({
    code: 'invalid_state',
    message: `"${guestPath}" in VM "web" has changes that would be lost: "a"`,
  });
  expect(readFileSync(join(copy.path, 'a'), 'utf8')).toBe('guest\n');
  await fixture.prepare({ overwrite: true });
  expect(readFileSync(join(copy.path, 'a'), 'utf8')).toBe('a 3\n');
  expect(findWorkspacesByHostPath(fixture.context.db, repo.path)).toHaveLength(1);
});

test('a place that holds something else is refused', async () => {
  const { repo, guestPath, directory } = fixture;
  repo.write('a', 'a\n');
  repo.commit('first');
  mkdirSync(guestPath, { recursive: true });
  writeFileSync(join(guestPath, 'theirs'), '');
  await expect(fixture.prepare()).rejects.toMatchObject({ code: 'already_exists' });
  rmSync(join(guestPath, 'theirs'));
  await fixture.prepare();

  const other = join(directory, 'other');
  repo.git('worktree', 'add', '-q', other);
  await expect(fixture.prepare({ path: other, overwrite: true })).rejects.toMatchObject({
    code: 'already_exists',
    message: `"${guestPath}" in VM "web" holds "${repo.path}"`,
  });
});

test('a swap that was interrupted is finished by the next prepare, guest changes included', async () => {
  const { repo, guestPath } = fixture;
  repo.write('a', 'a\n');
  repo.commit('first');
  await fixture.prepare();
  writeFileSync(join(guestPath, 'a'), 'guest\n');
  renameSync(guestPath, `${guestPath}.banger-old`);
  expect(await fixture.prepare()).toMatchObject({ update: { kept: ['a'] } });
  expect(readFileSync(join(guestPath, 'a'), 'utf8')).toBe('guest\n');
});

test('while a tree is being sent, the lock of its VM is free', async () => {
  fixture.remove();
  let wasTaken: boolean | undefined;
  fixture = createFixture({ onRun: () => (wasTaken ||= fixture.context.locks.vm.isTaken(vmId)) });
  fixture.repo.write('a', 'a\n');
  fixture.repo.commit('first');
  await fixture.prepare();
  expect(wasTaken).toBe(false);
});

test('whoever wants the VM does not wait for an upload to it', async () => {
  const uploading = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const { guest } = fixture.context;
  const slowGuest: WorkspaceContext['guest'] = async (...args) => {
    const real = await guest(...args);
    const runToolbox: Guest['runToolbox'] = async (argv, options) => {
      if (argv.some((word) => word.includes('tar -x'))) {
        uploading.resolve();
        await gate.promise;
      }
      return real.runToolbox(argv, options);
    };
    return { ...real, runToolbox };
  };
  Object.assign(fixture.context, { guest: slowGuest });
  fixture.repo.write('file', 'text\n');
  fixture.repo.commit('one');
  const preparing = fixture.prepare();
  await uploading.promise;
  // It is all that stop and delete wait for.
  const never = new AbortController().signal;
  expect(await fixture.context.locks.vm.run(vmId, never, async () => 'free')).toBe('free');
  gate.resolve();
  await preparing;
});
