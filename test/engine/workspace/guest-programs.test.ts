import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, readlinkSync, statSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import type { Guest, GuestOutput } from '../../../src/engine/guest.ts';
import { ensureGuestGit } from '../../../src/engine/workspace/guest-tree/guest-git.ts';
import { createFixture } from './workspace-fixture.ts';

const hasBusybox = spawnSync('busybox').status === 0;

test("busybox's shell and tar unpack what we send", async (context) => {
  if (!hasBusybox) context.skip('needs busybox on the host, as guests have it');
  const fixture = createFixture({ toolbox: ['busybox'] });
  try {
    const { repo, copy } = fixture;
    const long = `${'long/'.repeat(40)}${'name'.repeat(40)}`;
    repo.write(long, 'long\n');
    repo.write('line\nbreak', 'line\n');
    repo.write('run', '#!/bin/sh\n', 0o755);
    repo.write('big', Buffer.alloc(3_000_000, 'x'));
    mkdirSync(join(repo.path, 'dir'));
    symlinkSync('/etc/passwd', join(repo.path, 'dir/absolute'));
    symlinkSync(`../${'far/'.repeat(60)}`, join(repo.path, 'dir/far'));
    repo.commit('first');
    repo.write('run', '#!/bin/sh\nexit\n');
    await fixture.prepare();
    await fixture.prepare();
    expect(readFileSync(join(copy.path, long), 'utf8')).toBe('long\n');
    expect(statSync(join(copy.path, 'run')).mode & 0o777).toBe(0o755);
    expect(statSync(join(copy.path, 'big')).size).toBe(3_000_000);
    expect(readlinkSync(join(copy.path, 'dir/absolute'))).toBe('/etc/passwd');
    expect(readlinkSync(join(copy.path, 'dir/far'))).toBe(`../${'far/'.repeat(60)}`);
    expect(copy.git('status', '--porcelain=v2')).toBe(repo.git('status', '--porcelain=v2'));
    copy.git('fsck', '--strict');
    copy.write('run', '#!/bin/sh\nexit 1\n');
    expect((await fixture.exportAndApply()).files.map((file) => file.path)).toEqual(['run']);
  } finally {
    fixture.remove();
  }
});

/** A guest that answers with exit codes, by the first word of what is run. */
function scriptedGuest(exitCodes: (argv: readonly string[]) => number): { guest: Guest; ran: string[] } {
  const ran: string[] = [];
  const run = async (argv: readonly string[]): Promise<GuestOutput> => {
    ran.push(argv.join(' '));
    const code = exitCodes(argv);
    const stdout = Buffer.from(code === 0 ? 'git version 2.50.0\n' : '');
    return { exit: { code }, stdout, stderr: code === 0 ? '' : 'tar: no space left\n' };
  };
  const never = () => Promise.reject(new Error('not in this test'));
  return {
    guest: {
      run,
      runToolbox: run,
      spawn: never,
      spawnToolbox: never,
      connectSocket: never,
      connectDatagrams: never,
      shell: never,
      powerOff: never,
    },
    ran,
  };
}

const assets = { buildId: '', file: async () => '', open: () => Readable.from([]) };
const ensure = (guest: Guest) =>
  ensureGuestGit({ assets, guest, vmName: 'web', signal: new AbortController().signal });
const ours = '/run/banger/git/bin/git';

test("the image's own git is used when it has one", async () => {
  const { guest, ran } = scriptedGuest(() => 0);
  expect(await ensure(guest)).toBe('git');
  expect(ran).toEqual(['git --version']);
});

test('an image without git gets ours, once', async () => {
  let sent = false;
  const { guest, ran } = scriptedGuest(([program]) => {
    if (program === 'sh') sent = true;
    return program === 'sh' || (program === ours && sent) ? 0 : 127;
  });
  expect(await ensure(guest)).toBe(ours);
  expect(await ensure(guest)).toBe(ours);
  expect(ran.filter((line) => line.includes('tar -x -f - -C /'))).toHaveLength(1);
});

test('a guest that cannot hold git is an error with the reason', async () => {
  const { guest } = scriptedGuest(() => 1);
  await expect(ensure(guest)).rejects.toMatchObject({
    code: 'command_failed',
    message: 'VM "web" has no git, and ours does not run in it: tar: no space left',
  });
});
