import { spawn } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import BetterSqlite from 'better-sqlite3';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { BangerError, explainHostError } from '../../src/errors.ts';
import {
  closeEngineDatabase,
  openDatabase,
  openEngineDatabase,
  type Database,
} from '../../src/state/database.ts';
import { readEngineNote } from '../../src/engine/rpc/engine-note.ts';
import { takeStateDirectory } from '../../src/engine/state-directory.ts';
import { resolveLayout, type Layout } from '../../src/state/layout.ts';
import { withSmallDisk } from '../support/small-disk.ts';

let home: string;
let layout: Layout;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'banger-db-'));
  layout = layoutOf(home);
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

function layoutOf(directory: string): Layout {
  return resolveLayout({ env: { BANGER_HOME: directory }, home, uid: 0, temporaryDirectory: directory });
}

/** A row of any size that nothing else looks at. */
function addRow(db: Database, id: string, bytes = 100): void {
  db.prepare(
    `INSERT INTO images (id, source, size_bytes, content_bytes, config, layers, os_release, has_shell, created_at)
     VALUES (?, 'import', 0, 0, ?, '[]', '{}', 0, '')`,
  ).run(id, 'x'.repeat(bytes));
}

function rows(db: Database): string[] {
  return db.prepare<[], string>('SELECT id FROM images ORDER BY rowid').pluck().all();
}

/** Opens it, which must be refused with something to do, and must not change a byte of it. */
function refusal(open: () => unknown, path: string): BangerError {
  const before = readFileSync(path);
  let error: unknown;
  try {
    open();
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(BangerError);
  expect(error).toMatchObject({ code: 'invalid_state', hint: expect.stringMatching(/: /) as unknown });
  expect(readFileSync(path).equals(before)).toBe(true);
  return error as BangerError;
}

function makeDatabase(count: number): string {
  const db = openEngineDatabase(layout);
  for (let row = 0; row < count; row++) addRow(db, `row-${row}`, 500);
  closeEngineDatabase(db);
  return layout.database;
}

test('any page that is overwritten is found before the database is used', () => {
  const path = makeDatabase(200);
  const whole = readFileSync(path);
  const pageSize = whole.readUInt16BE(16);
  const pages = whole.length / pageSize;
  expect(pages).toBeGreaterThan(20);
  const refused = [];
  for (let page = 0; page < pages; page++) {
    const bytes = Buffer.from(whole);
    bytes.fill(0x5a, page * pageSize, (page + 1) * pageSize);
    writeFileSync(path, bytes);
    refused.push(refusal(() => openDatabase(path), path).message);
  }
  for (const message of refused) expect(message).toContain('is damaged');
});

test('a database that was cut short is refused', () => {
  const path = makeDatabase(200);
  writeFileSync(path, readFileSync(path).subarray(0, 3 * 4096));
  expect(refusal(() => openDatabase(path), path).message).toContain('is damaged');
});

test.each(['delete', 'wal'])('a database of another program is refused (journal: %s)', (journal) => {
  mkdirSync(layout.stateDirectory, { recursive: true });
  const other = new BetterSqlite(layout.database);
  other.pragma(`journal_mode = ${journal}`);
  other.exec('CREATE TABLE bookmarks (url TEXT)');
  other.close();
  expect(refusal(() => openDatabase(layout.database), layout.database).message).toContain(
    'was not made by banger',
  );
});

test('a newer database is refused with its log, when the newer engine was killed', () => {
  const db = openEngineDatabase(layout);
  db.pragma('user_version = 1000');
  const copy = layoutOf(join(home, 'copy'));
  copyState(layout, copy);
  db.close();
  const wal = readFileSync(`${copy.database}-wal`);
  expect(refusal(() => openEngineDatabase(copy), copy.database).message).toContain('has version 1000');
  expect(readFileSync(`${copy.database}-wal`).equals(wal)).toBe(true);
});

test('a write-ahead log that vanished after a crash is missed, and one that was not needed is not', () => {
  const db = openEngineDatabase(layout);
  addRow(db, 'acknowledged');
  const copy = layoutOf(join(home, 'copy'));
  copyState(layout, copy);
  closeEngineDatabase(db);
  // Ended as it should: there is no log, and none is missed.
  closeEngineDatabase(openEngineDatabase(layout));

  const crashed = openEngineDatabase(copy);
  expect(rows(crashed)).toEqual(['acknowledged']);
  const again = layoutOf(join(home, 'again'));
  addRow(crashed, 'second');
  copyState(copy, again);
  crashed.close();
  rmSync(`${again.database}-wal`);
  const error = refusal(() => openEngineDatabase(again), again.database);
  expect(error.message).toContain('-wal" is gone');
  const [, mark] = /rm (\S+)$/.exec(error.hint!)!;
  rmSync(mark!);
  closeEngineDatabase(openEngineDatabase(again));
});

test('a database that is gone does not make disks of VMs leftovers', () => {
  const path = makeDatabase(1);
  mkdirSync(join(layout.vmsDirectory, '0'.repeat(32)), { recursive: true });
  rmSync(path);
  expect(() => openEngineDatabase(layout)).toThrow('is gone, and there are VMs that it knew');
  expect(existsSync(path)).toBe(false);
});

test('somebody who holds the database is waited for, not for ever, and then named as the reason', async () => {
  const path = makeDatabase(1);
  const db = openDatabase(path);
  expect(db.pragma('busy_timeout', { simple: true })).toBeLessThanOrEqual(5000);
  const other = new BetterSqlite(path);
  other.exec('BEGIN IMMEDIATE');
  db.pragma('busy_timeout = 50');
  let error: unknown;
  try {
    addRow(db, 'meanwhile');
  } catch (thrown) {
    error = thrown;
  }
  expect(explainHostError(error)).toMatchObject({
    code: 'busy',
    message: 'The database is held by another program',
    hint: expect.stringContaining('banger engine status') as unknown,
  });
  other.exec('COMMIT');
  other.close();

  // Held by another process that lets go: the write waits, and is done.
  db.pragma('busy_timeout = 5000');
  const holder = spawn(process.execPath, ['-e', holdScript, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => holder.stdout.once('data', resolve));
  addRow(db, 'afterwards');
  expect(rows(db)).toEqual(['row-0', 'afterwards']);
  await new Promise((resolve) => (holder.exitCode === null ? holder.once('exit', resolve) : resolve(0)));
  db.close();
});

/** Holds the database for a moment after it has said so. */
const holdScript = `
  const db = new (require('${join(import.meta.dirname, '../../node_modules/better-sqlite3')}'))(process.argv[1]);
  db.exec('BEGIN IMMEDIATE');
  require('fs').writeSync(1, 'held');
  setTimeout(() => { db.exec('COMMIT'); db.close(); }, 300);
`;

test('copies made while the engine writes open with all that was acknowledged before, or are refused', () => {
  const db = openEngineDatabase(layout);
  // Checkpoints often, so that copies are taken before, between and after them.
  db.pragma('wal_autocheckpoint = 8');
  for (let round = 0; round < 40; round++) {
    addRow(db, `before-${round}`, 900);
    const copy = layoutOf(join(home, `copy-${round}`));
    mkdirSync(copy.stateDirectory, { recursive: true });
    copyFileSync(layout.database, copy.database);
    // The engine goes on between the first file and the second.
    addRow(db, `between-${round}`, 900);
    copyFileSync(`${layout.database}-wal`, `${copy.database}-wal`);
    copyFileSync(`${layout.database}-open`, `${copy.database}-open`);
    const found = openCopy(copy);
    if (found !== 'refused') expect(found).toContain(`before-${round}`);
    rmSync(copy.stateDirectory, { recursive: true });
  }
  closeEngineDatabase(db);
});

function openCopy(copy: Layout): string[] | 'refused' {
  try {
    const db = openEngineDatabase(copy);
    const found = rows(db);
    db.close();
    return found;
  } catch (error) {
    expect(error).toMatchObject({ code: 'invalid_state' });
    return 'refused';
  }
}

test('on a disk that is full to its last block a new engine has room to delete what fills it', async (context) => {
  await withSmallDisk(context, '4m', async (disk) => {
    const small = layoutOf(disk.path);
    mkdirSync(small.stateDirectory, { recursive: true });
    const before = (await takeStateDirectory(small))!;
    const first = openEngineDatabase(small);
    addRow(first, 'to-be-deleted');
    closeEngineDatabase(first);
    before.close();
    disk.fill();

    const lock = (await takeStateDirectory(small))!;
    expect(readEngineNote(small.engineNote)?.socket).toBe(small.engineSocket);
    const db = openEngineDatabase(small);
    db.prepare('DELETE FROM images').run();
    for (let row = 0; row < 20; row++) addRow(db, `row-${row}`, 500);
    closeEngineDatabase(db);
    lock.close();

    // Without room for the note an engine starts all the same, and none of another engine's is believed.
    disk.fill();
    rmSync(`${small.database}-spare`);
    disk.fill();
    const again = (await takeStateDirectory(small))!;
    expect(readEngineNote(small.engineNote)).toBeUndefined();
    again.close();
  });
});

test('a disk that fills up at a write or a checkpoint loses nothing that was acknowledged', async (context) => {
  await withSmallDisk(context, '2m', (disk) => {
    const small = layoutOf(disk.path);
    const db = openEngineDatabase(small);
    db.pragma('wal_autocheckpoint = 0');
    const acknowledged = [];
    for (let row = 0; row < 60; row++) {
      addRow(db, `row-${row}`, 4000);
      acknowledged.push(`row-${row}`);
    }
    disk.fill();
    // The log holds what the database has no room for.
    expect(codeOf(() => db.pragma('wal_checkpoint(TRUNCATE)'))).toMatch(/^SQLITE_(?:FULL|IOERR)/);
    const refused = codeOf(() => addRow(db, 'too much', 100_000));
    expect(refused).toMatch(/^SQLITE_(?:FULL|IOERR)/);
    expect(rows(db)).toEqual(acknowledged);

    const crashed = layoutOf(join(home, 'crashed'));
    copyState(small, crashed);
    const afterCrash = openEngineDatabase(crashed);
    expect(rows(afterCrash)).toEqual(acknowledged);
    closeEngineDatabase(afterCrash);

    disk.makeRoom();
    addRow(db, 'there is room');
    closeEngineDatabase(db);
    const next = openEngineDatabase(small);
    expect(rows(next)).toEqual([...acknowledged, 'there is room']);
    closeEngineDatabase(next);
  });
});

function codeOf(act: () => unknown): string {
  try {
    act();
    return 'nothing was thrown';
  } catch (error) {
    expect(explainHostError(error)).toMatchObject({ code: 'host_unsupported' });
    return (error as { code: string }).code;
  }
}

/** What a kill -9 leaves: the files as they are now. */
function copyState(from: Layout, to: Layout): void {
  mkdirSync(to.stateDirectory, { recursive: true });
  for (const suffix of ['', '-wal', '-open']) copyFileSync(from.database + suffix, to.database + suffix);
}
