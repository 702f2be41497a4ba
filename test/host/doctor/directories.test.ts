import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkDirectory, checkSocketPath } from '../../../src/host/doctor/directories.ts';
import {
  checkExecutable,
  checkSpace,
  checkTemporaryDirectory,
  nearestExisting,
} from '../../../src/host/doctor/storage.ts';

const subject = { id: 'some', title: 'Some' };
const uid = process.getuid!();
const gib = 1024 ** 3;
const mib = 1024 ** 2;

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'banger-test-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function withMode(mode: number): string {
  const path = join(root, 'directory');
  mkdirSync(path);
  chmodSync(path, mode);
  return path;
}

test('a directory that is not there passes where it can be made, and stays absent', async () => {
  const path = join(root, 'a/b/c');
  expect(await checkDirectory(subject, { path, isStrict: true, uid })).toMatchObject({
    status: 'pass',
    evidence: `${path} is made when it is needed`,
  });
  expect(readdirSync(root)).toEqual([]);
});

test('a directory that cannot be made names what is in the way', async () => {
  // The kernel lets nobody make anything here, root included.
  expect(
    await checkDirectory(subject, { path: '/proc/sys/kernel/banger/state', isStrict: false, uid }),
  ).toMatchObject({
    status: 'fail',
    evidence: '/proc/sys/kernel/banger/state cannot be made: /proc/sys/kernel cannot be written to',
  });
  writeFileSync(join(root, 'file'), '');
  expect(
    await checkDirectory(subject, { path: join(root, 'file/state'), isStrict: false, uid }),
  ).toMatchObject({ status: 'fail', evidence: `${join(root, 'file')} is not a directory` });
});

test.each([
  [0o700, true, 'pass'],
  [0o755, true, 'fail'],
  [0o755, false, 'warn'],
  [0o700, false, 'pass'],
])('mode %o, strict %s: %s', async (mode, isStrict, status) => {
  expect((await checkDirectory(subject, { path: withMode(mode), isStrict, uid })).status).toBe(status);
});

test("somebody else's directory fails, as after a run with sudo", async () => {
  const result = await checkDirectory(subject, { path: withMode(0o700), isStrict: false, uid: uid + 1 });
  expect(result).toMatchObject({ status: 'fail' });
  expect(result.fix).toContain('sudo chown -R');
});

test('a link will do for the state, but not for sockets', async () => {
  const path = join(root, 'link');
  symlinkSync(withMode(0o700), path);
  expect((await checkDirectory(subject, { path, isStrict: false, uid })).status).toBe('pass');
  expect((await checkDirectory(subject, { path, isStrict: true, uid })).status).toBe('fail');
});

test('a socket path may have 107 bytes, counted as bytes', () => {
  expect(checkSocketPath(`/${'x'.repeat(106)}`).status).toBe('pass');
  expect(checkSocketPath(`/${'x'.repeat(107)}`).status).toBe('fail');
  expect(checkSocketPath(`/${'\u00e9'.repeat(54)}`).status).toBe('fail');
});

test.each([
  [5 * gib, 'pass'],
  [5 * gib - 1, 'warn'],
  [512 * mib, 'warn'],
  [512 * mib - 1, 'fail'],
])('%i bytes free are a %s', async (bytes, status) => {
  const asked: string[] = [];
  const result = await checkSpace(subject, join(root, 'not/yet/there'), async (directory) => {
    asked.push(directory);
    return bytes;
  });
  expect(result.status).toBe(status);
  expect(asked).toEqual([root]);
});

test('free space is that of the real filesystem', async () => {
  expect((await checkSpace(subject, root)).evidence).toMatch(/^[\d.]+ [GM]iB free at /);
});

test('a cache is noexec when its own mount is, not one beside or below', async () => {
  const line = (point: string, options: string): string => `1 1 0:1 / ${point} ${options} - ext4 /dev/x rw\n`;
  const status = async (mountinfo: string): Promise<string> =>
    (await checkExecutable(subject, join(root, 'cache'), mountinfo)).status;
  expect(await status(line('/', 'rw'))).toBe('pass');
  expect(await status(line('/', 'rw,noexec'))).toBe('warn');
  expect(await status(line('/', 'rw') + line(root, 'rw,noexec'))).toBe('warn');
  expect(await status(line(root, 'rw') + line('/', 'rw,noexec'))).toBe('pass');
  expect(await status(line('/', 'rw') + line(`${root}x`, 'rw,noexec'))).toBe('pass');
  expect(await status(line(root, 'rw,noexec') + line(root, 'rw'))).toBe('pass');
  expect(await status('')).toBe('skip');
});

test('the temporary directory is tried, and left as it was', async () => {
  expect((await checkTemporaryDirectory(root)).status).toBe('pass');
  expect(readdirSync(root)).toEqual([]);
  expect((await checkTemporaryDirectory(join(root, 'missing'))).status).toBe('fail');
});

test('the nearest directory that is there is found upwards', async () => {
  expect(await nearestExisting(join(root, 'a/b'))).toBe(root);
  expect(await nearestExisting(root)).toBe(root);
});
