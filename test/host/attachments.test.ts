import { copyFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { attachFiles, attachmentsOf } from '../../src/host/attachments.ts';

let directory: string;
let executable: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'banger-attached-'));
  executable = join(directory, 'program');
  writeFileSync(executable, 'ELF');
  writeFileSync(join(directory, 'big'), Buffer.alloc(700_000, 'big'));
  writeFileSync(join(directory, 'empty'), '');
  attachFiles(executable, { big: join(directory, 'big'), empty: join(directory, 'empty') });
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

test('what was attached is read as it was', () => {
  const attached = attachmentsOf(executable);
  expect(attached.size('big')).toBe(700_000);
  expect(Buffer.concat([...attached.chunks('big')]).equals(readFileSync(join(directory, 'big')))).toBe(true);
  expect(attached.text('empty')).toBe('');
  expect(() => attached.text('other')).toThrow('does not carry "other"');
});

test('a program that was replaced while it runs still reads its own files', () => {
  const attached = attachmentsOf(executable);
  expect(attached.size('empty')).toBe(0);
  rmSync(executable);
  writeFileSync(executable, 'another');
  expect(attached.bytes('big').equals(readFileSync(join(directory, 'big')))).toBe(true);
});

test('a program that was cut short says so', () => {
  const short = join(directory, 'short');
  copyFileSync(executable, short);
  truncateSync(short, 600_000);
  expect(() => attachmentsOf(short).size('big')).toThrow('cut short');
});
