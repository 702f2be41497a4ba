import { accessSync, chmodSync, constants, existsSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import BetterSqlite from 'better-sqlite3';
import { errorText } from '../errors.ts';
import {
  checkDatabase,
  damagedDatabase,
  markOpen,
  refuseLostChanges,
  unmarkOpen,
} from './database-checks.ts';
import type { Layout } from './layout.ts';
import { migrations } from './schema.ts';
import { leaveSpareRoom } from './spare-room.ts';

export type Database = BetterSqlite.Database;

/** What `better-sqlite3` accepts as its addon: a module already loaded, or nothing for its own search. */
export type SqliteAddon = object | undefined;

/**
 * Opens the engine's database and brings it to the current version.
 *
 * One that is damaged, another program's or a newer banger's is refused (`invalid_state`) and not touched.
 * `:memory:` works for tests.
 */
export function openDatabase(path: string, addon?: SqliteAddon): Database {
  const inMemory = path === ':memory:';
  if (!inMemory) mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  try {
    if (!inMemory && existsSync(path)) {
      // SQLite says only that it cannot.
      accessSync(path, constants.R_OK | constants.W_OK);
      check(path, addon);
    }
    return openForWriting(path, addon);
  } catch (error) {
    throw damaged(path, error);
  }
}

/**
 * Opens the database of a state directory for the engine that owns it; `closeEngineDatabase` closes it. One whose
 * last changes are missing is refused as well: VMs may be there that it does not know.
 */
export function openEngineDatabase(layout: Layout, addon?: SqliteAddon): Database {
  refuseLostChanges(layout.database, layout.vmsDirectory);
  const db = openDatabase(layout.database, addon);
  markOpen(layout.database);
  return db;
}

/** Pages of 4 KiB that the log holds before they go to the database: less than what `reserveRoom` takes. */
const checkpointPages = 64;
const reserveBytes = 512 * 1024;

/**
 * Takes room on the disk for what the database has yet to write, in its log and among its free pages. On a disk that
 * is full, what happens to VMs can still be written down, and deleting one, which makes room, can too.
 */
export function reserveRoom(db: Database): void {
  db.exec('DROP TABLE IF EXISTS reserve; CREATE TABLE reserve (room BLOB)');
  // A transaction of its own: pages that are freed in the one that takes them are never written.
  db.prepare('INSERT INTO reserve VALUES (zeroblob(?))').run(reserveBytes);
  db.exec('DROP TABLE reserve');
  // From here on the log is overwritten from its beginning.
  db.pragma('wal_checkpoint(RESTART)');
}

/** A filesystem that has become read-only leaves it as a killed engine would, for the next one to open. */
export function closeEngineDatabase(db: Database): void {
  if (!unmarkOpen(db.name)) return;
  db.close();
  leaveSpareRoom(db.name);
}

function openForWriting(path: string, addon: SqliteAddon): Database {
  const db = connect(path, addon);
  try {
    if (path !== ':memory:') chmodSync(path, 0o600);
    db.pragma('journal_mode = WAL');
    db.pragma('synchronous = FULL');
    db.pragma(`wal_autocheckpoint = ${checkpointPages}`);
    db.pragma('foreign_keys = ON');
    db.pragma('busy_timeout = 5000');
    migrate(db);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/**
 * Takes the lock that makes this process the engine of a state directory, or returns undefined while another
 * process has it. The kernel frees it when the process ends, however it ends.
 */
export function takeEngineLock(path: string, addon?: SqliteAddon): Database | undefined {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const db = connect(path, addon);
  try {
    db.pragma('busy_timeout = 0');
    // Nothing is ever written: a disk that is full has no room for the journal that would be begun.
    db.pragma('journal_mode = MEMORY');
    db.exec('BEGIN EXCLUSIVE');
    return db;
  } catch (error) {
    db.close();
    if (sqliteCode(error).startsWith('SQLITE_BUSY')) return undefined;
    throw error;
  }
}

function connect(path: string, addon: SqliteAddon, how: { readonly?: boolean } = {}): Database {
  // The addon as an object is what a single executable needs: a path would go through `require`, which it refuses.
  const options = addon === undefined ? how : { ...how, nativeBinding: addon as unknown as string };
  return new BetterSqlite(path, options);
}

function migrate(db: Database): void {
  const version = Number(db.pragma('user_version', { simple: true }));
  for (const [index, migration] of migrations.entries()) {
    if (index < version) continue;
    db.transaction(() => {
      db.exec(migration);
      db.pragma(`user_version = ${index + 1}`);
    })();
  }
}

/** Looks before anything is written: merely to open a database for writing may change its file. */
function check(path: string, addon: SqliteAddon): void {
  const db = connect(path, addon, { readonly: true });
  try {
    checkDatabase(db, path, migrations.length);
  } finally {
    db.close();
  }
}

function damaged(path: string, error: unknown): unknown {
  const code = sqliteCode(error);
  if (code !== 'SQLITE_NOTADB' && !code.startsWith('SQLITE_CORRUPT')) return error;
  return damagedDatabase(path, code === 'SQLITE_NOTADB' ? 'it is no database' : errorText(error), error);
}

function sqliteCode(error: unknown): string {
  return error instanceof BetterSqlite.SqliteError ? error.code : '';
}
