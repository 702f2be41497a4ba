import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { takeStartLock } from '../../../src/engine/rpc/start-lock.ts';
import { hostBootId, identifyProcess } from '../../../src/host/process.ts';

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'banger-lock-'));
  path = join(directory, 'state', 'engine-start');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** Looks twice, as clients do: the first look breaks what is broken. */
const takeSoon = (): (() => void) | undefined => takeStartLock(path) ?? takeStartLock(path);
const leftovers = (): string[] => readdirSync(join(directory, 'state'));

test('one at a time has it, and leaves nothing', () => {
  const release = takeStartLock(path)!;
  expect(takeSoon()).toBeUndefined();
  release();
  takeStartLock(path)!();
  expect(leftovers()).toEqual([]);
});

test('a holder killed with -9 is followed at once', async () => {
  const module = resolve('src/engine/rpc/start-lock.ts');
  const code = `import(${JSON.stringify(module)}).then(({ takeStartLock }) => {
    takeStartLock(${JSON.stringify(path)});
    console.log('held');
    setInterval(() => undefined, 1e6);
  })`;
  const holder = spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(holder.stdout, 'data');
  expect(takeSoon()).toBeUndefined();
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  const release = takeSoon();
  expect(release).toBeDefined();
  release!();
  expect(leftovers()).toEqual([]);
});

test('a holder that has been stopped for however long keeps it: there is no time after which it is stale', async () => {
  const holder = spawn('sleep', ['60'], { stdio: 'ignore' });
  await once(holder, 'spawn');
  holder.kill('SIGSTOP');
  const { pid, startTime, bootId } = identifyProcess(holder.pid!)!;
  mkdirSync(join(directory, 'state'));
  symlinkSync(`${pid} ${startTime} ${bootId}`, path);
  // Older than any clock that jumps by a day would make it.
  execFileSync('touch', ['-h', '-d', '2 days ago', path]);
  expect(takeSoon()).toBeUndefined();
  execFileSync('touch', ['-h', '-d', '2 days', path]);
  expect(takeSoon()).toBeUndefined();
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  expect(takeSoon()).toBeDefined();
});

test.each([
  ['of a process that has the pid now', () => `${process.pid} 1 ${hostBootId()}`],
  ['of another boot', () => `${process.pid} ${identifyProcess(process.pid)!.startTime} another`],
  ['that makes no sense', () => 'x'],
])('one %s is broken', (_, target) => {
  mkdirSync(join(directory, 'state'));
  symlinkSync(target(), path);
  expect(takeSoon()).toBeDefined();
});

test('a file or directory in its place does not keep anybody out', () => {
  mkdirSync(join(directory, 'state'));
  writeFileSync(path, '');
  takeSoon()!();
  mkdirSync(join(path, 'more'), { recursive: true });
  takeSoon()!();
  expect(existsSync(path)).toBe(false);
});

test('the one who gives it back late does not take it from another', () => {
  const release = takeStartLock(path)!;
  rmSync(path);
  symlinkSync('1 somebody else', path);
  release();
  expect(leftovers()).toEqual(['engine-start']);
});
