import { chmodSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import BetterSqlite from 'better-sqlite3';
import { BangerError } from '../errors.ts';
import { migrations } from './schema.ts';

export type Database = BetterSqlite.Database;

/** What `better-sqlite3` accepts as its addon: a module already loaded, or nothing for its own search. */
export type SqliteAddon = object | undefined;

/**
 * Opens the engine's database and brings it to the current version.
 *
 * A database of a newer banger is refused, not guessed at (`invalid_state`). `:memory:` works for tests.
 */
export function openDatabase(path: string, addon?: SqliteAddon): Database {
  const inMemory = path === ':memory:';
  if (!inMemory) mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const db = connect(path, addon);
  try {
    if (!inMemory) chmodSync(path, 0o600);
    db.pragma('journal_mode = WAL');
    db.pragma('synchronous = FULL');
    db.pragma('foreign_keys = ON');
    db.pragma('busy_timeout = 5000');
    migrate(db, path);
    return db;
  } catch (error) {
    db.close();
    throw damaged(path, error);
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
    db.exec('BEGIN EXCLUSIVE');
    return db;
  } catch (error) {
    db.close();
    if (sqliteCode(error).startsWith('SQLITE_BUSY')) return undefined;
    throw error;
  }
}

function connect(path: string, addon: SqliteAddon): Database {
  // The addon as an object is what a single executable needs: a path would go through `require`, which it refuses.
  const options = addon === undefined ? {} : { nativeBinding: addon as unknown as string };
  return new BetterSqlite(path, options);
}

function migrate(db: Database, path: string): void {
  const version = Number(db.pragma('user_version', { simple: true }));
  if (version > migrations.length) {
    throw new BangerError(
      'invalid_state',
      `Database "${path}" has version ${version}, and this banger knows versions up to ${migrations.length}`,
      { hint: 'Use the newer banger that wrote it, or another state directory: BANGER_HOME=DIR banger …' },
    );
  }
  for (const [index, migration] of migrations.entries()) {
    if (index < version) continue;
    db.transaction(() => {
      db.exec(migration);
      db.pragma(`user_version = ${index + 1}`);
    })();
  }
}

function damaged(path: string, error: unknown): unknown {
  const code = sqliteCode(error);
  if (code !== 'SQLITE_NOTADB' && !code.startsWith('SQLITE_CORRUPT')) return error;
  return new BangerError('invalid_state', `Database "${path}" is damaged: ${code}`, {
    hint: `Nothing was changed. Move it away to start empty: mv ${path} ${path}.damaged`,
    cause: error,
  });
}

function sqliteCode(error: unknown): string {
  return error instanceof BetterSqlite.SqliteError ? error.code : '';
}
