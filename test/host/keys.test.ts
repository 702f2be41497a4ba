import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { exec } from '../../src/host/exec.ts';
import { ensureClientKey, generateHostKey, publicKeyBlob } from '../../src/host/keys.ts';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'banger-host-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

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
