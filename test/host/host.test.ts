import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, symlinkSync, readFileSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { findReadyLine, waitForReady } from '../../src/host/console.ts';
import { cpioArchive } from '../../src/host/cpio.ts';
import { exec } from '../../src/host/exec.ts';
import { ensurePrivateDirectory, writeFileAtomic } from '../../src/host/files.ts';
import { ensureClientKey, generateHostKey, publicKeyBlob } from '../../src/host/keys.ts';
import { identifyProcess, isAlive, killProcess, signalProcess } from '../../src/host/process.ts';
import { shellQuote } from '../../src/host/shell-quote.ts';
import { writeFileSync } from 'node:fs';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'banger-host-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const signal = new AbortController().signal;

test('a program that fails is reported with its exit code and its own words', async () => {
  await expect(exec(['sh', '-c', 'echo it broke >&2; exit 3'])).rejects.toThrow(/exited with 3: it broke/);
  expect((await exec(['sh', '-c', 'exit 3'], { okExitCodes: [3] })).exitCode).toBe(3);
});

test('a program that is not installed is the host lacking something, with what to do', async () => {
  await expect(exec(['no-such-program'])).rejects.toMatchObject({ code: 'host_unsupported' });
});

test('a program that takes too long, prints too much or is cancelled is ended', async () => {
  await expect(exec(['sleep', '60'], { timeoutMs: 50 })).rejects.toMatchObject({ code: 'timeout' });
  await expect(exec(['yes'], { maxOutputBytes: 1000 })).rejects.toThrow('printed more than it should');
  const cancel = AbortSignal.timeout(50);
  await expect(exec(['sleep', '60'], { signal: cancel })).rejects.toMatchObject({ code: 'cancelled' });
});

test('a process is known by its start time too: another with its pid is not touched', async () => {
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  const identity = identifyProcess(child.pid!)!;
  expect(isAlive(identity)).toBe(true);
  const impostor = { ...identity, startTime: '1' };
  expect(signalProcess(impostor, 'SIGKILL')).toBe(false);
  expect(isAlive({ ...identity, bootId: 'another boot' })).toBe(false);
  expect(isAlive(identity)).toBe(true);
  await killProcess(identity);
  expect(isAlive(identity)).toBe(false);
});

test('a file is replaced whole, with its mode, and leaves nothing beside it', async () => {
  const path = join(directory, 'sub', 'file');
  await writeFileAtomic(path, 'one', 0o600);
  await writeFileAtomic(path, 'two', 0o600);
  expect(readFileSync(path, 'utf8')).toBe('two');
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(readdirSync(join(directory, 'sub'))).toEqual(['file']);
});

test('a directory for secrets that is a link or open to others is refused', () => {
  ensurePrivateDirectory(join(directory, 'mine'));
  symlinkSync(join(directory, 'mine'), join(directory, 'link'));
  expect(() => ensurePrivateDirectory(join(directory, 'link'))).toThrow('is not a directory');
  expect(() => ensurePrivateDirectory('/tmp')).toThrow('/tmp');
});

test('our key pair is made once, private, and read back the same', async () => {
  const path = join(directory, 'ssh', 'id');
  const made = await ensureClientKey(path);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(publicKeyBlob((await ensureClientKey(path)).publicLine)).toEqual(publicKeyBlob(made.publicLine));
});

test('a host key is one that OpenSSH understands', async () => {
  const key = generateHostKey();
  const path = join(directory, 'key.pub');
  writeFileSync(path, `${key.publicLine}\n`);
  const { stdout } = await exec(['ssh-keygen', '-l', '-f', path]);
  expect(stdout.toString()).toContain('256 SHA256:');
  expect(key.dropbear.length).toBe(4 + 11 + 4 + 64);
});

test('an archive for the initramfs unpacks with cpio, modes and content intact', async () => {
  const archive = cpioArchive([
    { path: '/etc/banger/vm.conf', content: 'A=1\n', mode: 0o600 },
    { path: '/etc/banger/key', content: Buffer.from([0, 1, 2]), mode: 0o600 },
  ]);
  expect(archive.length % 4).toBe(0);
  await exec(['cpio', '-id', '--quiet'], { cwd: directory, input: archive });
  expect(readFileSync(join(directory, 'etc/banger/vm.conf'), 'utf8')).toBe('A=1\n');
  expect(readFileSync(join(directory, 'etc/banger/key'))).toEqual(Buffer.from([0, 1, 2]));
  expect(statSync(join(directory, 'etc/banger/key')).mode & 0o777).toBe(0o600);
});

test('words survive a shell', async () => {
  const words = ['plain', "it's", '$HOME `id` "x"', 'new\nline', '', '*', '-n'];
  const { stdout } = await exec(['sh', '-c', `printf '%s\\0' ${shellQuote(words)}`]);
  expect(stdout.toString().split('\0').slice(0, -1)).toEqual(words);
});

const line =
  'banger-ready v=1 kernel=1.52 modules=1.60 root=1.80 network=1.79 ssh=1.85 init=image shell=/bin/bash boot_id=abc';

test('the ready line is found among the noise of a console, and only in its own shape', () => {
  const ready = findReadyLine(`[    0.1] noise\r\n${line}\r\nlogin: `);
  expect(ready).toMatchObject({
    bootId: 'abc',
    init: 'image',
    hasShell: true,
    phases: { kernel: 1.52, ssh: 1.85 },
  });
  expect(findReadyLine(`not ${line}`)).toBeUndefined();
  expect(findReadyLine(line)).toBeUndefined();
});

test('a guest that reports an error, or ends, is told with its own words', async () => {
  const path = join(directory, 'console');
  const wait = (hasExited: boolean) =>
    waitForReady(path, { timeoutMs: 100, signal, hasExited: () => hasExited });
  writeFileSync(path, 'banger-error stage=root cannot mount /dev/vda\n');
  await expect(wait(true)).rejects.toThrow('The guest stopped at "root": cannot mount /dev/vda');
  writeFileSync(path, 'one\n\u001b[31mKernel panic\u001b[0m - not syncing\n');
  await expect(wait(true)).rejects.toThrow('its console ends with: one | Kernel panic - not syncing');
  await expect(wait(false)).rejects.toMatchObject({ code: 'timeout' });
});
