import { existsSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type BetterSqlite from 'better-sqlite3';
import { BangerError } from '../errors.ts';

/**
 * Looks at a database before anything is written to it: whether it is whole, ours, and of a version that we know.
 *
 * The connection must be read-only, so that what is refused is kept byte for byte, with its write-ahead log.
 */
export function checkDatabase(db: BetterSqlite.Database, path: string, knownVersion: number): void {
  const version = Number(db.pragma('user_version', { simple: true }));
  if (version > knownVersion) throw newerDatabase(path, version, knownVersion);
  const tables = db.prepare<[], string>(`SELECT name FROM sqlite_schema WHERE type = 'table'`).pluck().all();
  const isOurs = version === 0 ? tables.length === 0 : tables.includes('vms') && tables.includes('images');
  if (!isOurs) {
    throw new BangerError('invalid_state', `Database "${path}" was not made by banger`, {
      hint: `Nothing was changed. Put it where it belongs, and start again: mv ${path} ${path}.foreign`,
    });
  }
  const found = db.prepare<[], string>('PRAGMA integrity_check(1)').pluck().get();
  if (found !== 'ok') throw damagedDatabase(path, found ?? 'it cannot be read');
}

/** The error for a banger that is too old for a database; one of which nothing else is known says less. */
export function newerDatabase(path: string, version: number, knownVersion: number | undefined): BangerError {
  const known = knownVersion === undefined ? 'is too old for it' : `knows versions up to ${knownVersion}`;
  return new BangerError(
    'invalid_state',
    `Database "${path}" has version ${version}, and this banger ${known}`,
    { hint: 'Use the newer banger that wrote it, or another state directory: BANGER_HOME=DIR banger …' },
  );
}

/** What whoever does so is in for, before they do. */
const putBack =
  'Put a copy of it back: VMs and images newer than the copy are unknown then, and "banger doctor" says where they are.';

/** The error for a database that cannot be trusted any more. */
export function damagedDatabase(path: string, why: string, cause?: unknown): BangerError {
  return new BangerError('invalid_state', `Database "${path}" is damaged: ${why.replaceAll('\n', ' ')}`, {
    hint: `Nothing was changed. ${putBack} Or begin anew, keeping everything: ${setAside(path)}`,
    cause,
  });
}

/**
 * Throws when changes that were acknowledged are missing: an engine was killed, and its write-ahead log, which held
 * the last of them, is gone; or the whole database is gone and its VMs are not. An engine that went on would take the
 * disks of VMs that it does not know for leftovers.
 */
export function refuseLostChanges(path: string, vmsDirectory: string): void {
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  if (size === 0 && !existsSync(walPath(path)) && hasVms(vmsDirectory)) {
    throw new BangerError('invalid_state', `Database "${path}" is gone, and there are VMs that it knew`, {
      hint: `Nothing was changed. ${putBack} Or begin anew, keeping everything: ${setAside(path)}`,
    });
  }
  if (existsSync(openMark(path)) && !existsSync(walPath(path))) {
    throw new BangerError(
      'invalid_state',
      `"${walPath(path)}" is gone, which held the last changes to the database`,
      {
        hint: `Put it back; or go on without VMs that are newer, whose disks are kept: rm ${openMark(path)}`,
      },
    );
  }
}

/**
 * Says that the write-ahead log holds changes, until `unmarkOpen`. There is a log by then. A disk so full that it
 * cannot be said must not keep an engine from deleting what fills it.
 */
export function markOpen(path: string): void {
  try {
    writeFileSync(openMark(path), '', { mode: 0o600 });
  } catch {
    // A log that vanishes will not be missed, as it would not be without all this.
  }
}

/**
 * To be called while the log is still there: an engine killed in between leaves both, or the log alone. False when it
 * cannot be done, and the log has to stay.
 */
export function unmarkOpen(path: string): boolean {
  try {
    rmSync(openMark(path), { force: true });
    return true;
  } catch {
    return false;
  }
}

/** A filesystem that is mounted there has entries of its own, and a probe may have left some. */
function hasVms(directory: string): boolean {
  return existsSync(directory) && readdirSync(directory).some((name) => /^[0-9a-f]{32}$/.test(name));
}

function walPath(path: string): string {
  return `${path}-wal`;
}

function openMark(path: string): string {
  return `${path}-open`;
}

/** Moves the whole state away: disks of VMs, images and the database belong together. */
function setAside(path: string): string {
  return `mv ${dirname(path)} ${dirname(path)}.damaged`;
}
