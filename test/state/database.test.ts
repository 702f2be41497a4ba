import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openDatabase, takeEngineLock } from '../../src/state/database.ts';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'banger-db-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

test('a database is private, and opens again', () => {
  const path = join(directory, 'state', 'banger.db');
  openDatabase(path).close();
  expect(statSync(path).mode & 0o777).toBe(0o600);
  openDatabase(path).close();
});

test('a database of a newer banger is refused, and left as it is', () => {
  const path = join(directory, 'banger.db');
  const db = openDatabase(path);
  db.pragma('user_version = 1000');
  db.close();
  expect(() => openDatabase(path)).toThrow('has version 1000');
});

test('a file that is no database is refused with what to do', () => {
  const path = join(directory, 'banger.db');
  writeFileSync(path, 'x'.repeat(5000));
  expect(() => openDatabase(path)).toThrow(expect.objectContaining({ code: 'invalid_state' }));
});

test('only one engine at a time holds the lock of a state directory', () => {
  const path = join(directory, 'engine.lock');
  const first = takeEngineLock(path);
  expect(first).toBeDefined();
  expect(takeEngineLock(path)).toBeUndefined();
  first?.close();
  takeEngineLock(path)?.close();
});
