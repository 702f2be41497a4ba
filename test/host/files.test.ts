import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ensurePrivateDirectory, writeFileAtomic } from '../../src/host/files.ts';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'banger-host-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

test('a file is replaced whole, with its mode, and leaves nothing beside it', async () => {
  const path = join(directory, 'sub', 'file');
  await writeFileAtomic(path, 'one', 0o600);
  await writeFileAtomic(path, 'two', 0o600);
  expect(readFileSync(path, 'utf8')).toBe('two');
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(readdirSync(join(directory, 'sub'))).toEqual(['file']);
});

test('while it is written it is hidden from who reads every file of its directory', async () => {
  const seen: string[] = [];
  const content = async function* (): AsyncGenerator<Uint8Array> {
    seen.push(...readdirSync(directory));
    yield Buffer.from('text');
  };
  await writeFileAtomic(join(directory, 'file'), content(), 0o600);
  expect(seen).toEqual([expect.stringMatching(/^\.file\./)]);
});

test('a directory for secrets that is a link or open to others is refused', () => {
  ensurePrivateDirectory(join(directory, 'mine'));
  symlinkSync(join(directory, 'mine'), join(directory, 'link'));
  expect(() => ensurePrivateDirectory(join(directory, 'link'))).toThrow('is not a directory');
  expect(() => ensurePrivateDirectory('/tmp')).toThrow('/tmp');
});
