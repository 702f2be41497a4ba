import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { cpioArchive } from '../../src/host/cpio.ts';
import { exec } from '../../src/host/exec.ts';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'banger-host-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

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
