import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statfsSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { takeStartLock } from '../../../src/engine/rpc/start-lock.ts';
import { withSmallDisk } from '../../support/small-disk.ts';
import { hostBootId, identifyProcess } from '../../../src/host/process.ts';

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'banger-lock-'));
  path = join(directory, 'state', 'engine-start');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** Looks twice, as clients do: the first look breaks what is broken. */
const takeSoon = async (): ReturnType<typeof takeStartLock> =>
  (await takeStartLock(path)) ?? (await takeStartLock(path));
const leftovers = (): string[] => readdirSync(join(directory, 'state'));

/** A lock as somebody else holds it. */
function lockedBy(holder: string): void {
  mkdirSync(`${path}.lock`, { recursive: true });
  symlinkSync(holder, `${path}.holder`);
}

test('one at a time has it, and leaves nothing', async () => {
  const release = (await takeStartLock(path))!;
  expect(await takeSoon()).toBeUndefined();
  await release();
  await (await takeStartLock(path))!();
  expect(leftovers()).toEqual([]);
});

test('a holder killed with -9 is followed at once', async () => {
  const module = resolve('src/engine/rpc/start-lock.ts');
  const code = `import(${JSON.stringify(module)}).then(async ({ takeStartLock }) => {
    await takeStartLock(${JSON.stringify(path)});
    console.log('held');
    setInterval(() => undefined, 1e6);
  })`;
  const holder = spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(holder.stdout, 'data');
  expect(await takeSoon()).toBeUndefined();
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  const release = await takeSoon();
  expect(release).toBeDefined();
  await release!();
  expect(leftovers()).toEqual([]);
});

test('a holder that has been stopped for however long keeps it: there is no time after which it is stale', async () => {
  const holder = spawn('sleep', ['60'], { stdio: 'ignore' });
  await once(holder, 'spawn');
  holder.kill('SIGSTOP');
  const { pid, startTime, bootId } = identifyProcess(holder.pid!)!;
  lockedBy(`${pid} ${startTime} ${bootId}`);
  // Older than any clock that jumps by a day would make it.
  execFileSync('touch', ['-d', '2 days ago', `${path}.lock`]);
  expect(await takeSoon()).toBeUndefined();
  execFileSync('touch', ['-d', '2 days', `${path}.lock`]);
  expect(await takeSoon()).toBeUndefined();
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  const release = await takeSoon();
  expect(release).toBeDefined();
  await release!();
});

test.each([
  ['of a process that has the pid now', () => `${process.pid} 1 ${hostBootId()}`],
  ['of another boot', () => `${process.pid} ${identifyProcess(process.pid)!.startTime} another`],
  ['that makes no sense', () => 'x'],
])('one %s is broken', async (_, target) => {
  lockedBy(target());
  const release = await takeSoon();
  expect(release).toBeDefined();
  await release!();
});

test('one whose holder died before it could say who it is keeps nobody out for long', async () => {
  mkdirSync(`${path}.lock`, { recursive: true });
  expect(await takeSoon()).toBeUndefined();
  let release: Awaited<ReturnType<typeof takeStartLock>>;
  await vi.waitFor(async () => expect((release = await takeSoon())).toBeDefined(), { timeout: 10_000 });
  await release!();
});

test('a disk on which no lock can be made keeps nobody from starting an engine', async (context) => {
  await withSmallDisk(context, '1m', async (disk) => {
    const full = join(disk.path, 'state', 'engine-start');
    mkdirSync(join(disk.path, 'state'));
    for (const spareInodes of [0, 1]) {
      const { files, ffree } = statfsSync(disk.path);
      disk.remount(`nr_inodes=${files - ffree + spareInodes}`);
      const release = await takeStartLock(full);
      expect(release).toBeDefined();
      await release!();
      expect(readdirSync(join(disk.path, 'state'))).toEqual([]);
    }
  });
});

test('the one who gives it back late does not take it from another', async () => {
  const release = (await takeStartLock(path))!;
  rmSync(`${path}.holder`);
  symlinkSync('1 somebody else', `${path}.holder`);
  await release();
  expect(leftovers().sort()).toEqual(['engine-start.holder', 'engine-start.lock']);
});
