import { lstatSync, mkdirSync, statSync } from 'node:fs';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { BangerError, errnoOf } from '../errors.ts';
import { shellWord } from './shell-quote.ts';

let temporaryCounter = 0;

/**
 * Writes a file so that readers see the old content or the new, never a mixture, whatever dies meanwhile:
 * temporary file, fsync, rename, fsync of the directory. Missing directories are made with mode 0700.
 */
export async function writeFileAtomic(
  path: string,
  content: string | Uint8Array | AsyncIterable<Uint8Array>,
  mode: number,
): Promise<void> {
  const directory = dirname(path);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  // Hidden: who reads every file of a directory, as dnsmasq does, passes it over.
  const temporary = join(directory, `.${basename(path)}.${process.pid}.${++temporaryCounter}.tmp`);
  try {
    const file = await open(temporary, 'wx', mode);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncDirectory(directory);
}

/** Names in a directory, sorted; none when there is no such directory. */
export async function namesIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).toSorted();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}

/** Makes durable what another program has written to a file. */
export async function syncFile(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes a rename in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/**
 * Makes sure a directory is there, ours, and that nobody else can write to it. Others may have been let read, and the
 * path may lead over links: it is one that the user has chosen.
 */
export function ensureOwnDirectory(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const found = statSync(path);
  const uid = process.getuid!();
  if (found.uid === uid && (found.mode & 0o022) === 0) return;
  const isOurs = found.uid === uid;
  const why = isOurs
    ? 'can be written to by other users'
    : `belongs to user ${found.uid}, not to you (${uid})`;
  throw new BangerError('invalid_state', `"${path}" ${why}`, {
    hint: isOurs
      ? `Close it with: chmod go-w ${shellWord(path)}`
      : 'Choose another place: BANGER_HOME=DIR banger …',
  });
}

/**
 * Makes sure a directory is there, ours, and closed to others. Somebody else's directory, or a link, at a
 * predictable place under a shared one is refused: whoever put it there could read what we put in.
 */
export function ensurePrivateDirectory(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const found = lstatSync(path);
  const uid = process.getuid!();
  const isOurs = found.isDirectory() && found.uid === uid;
  if (isOurs && (found.mode & 0o077) === 0) return;
  const why = !found.isDirectory()
    ? 'is not a directory'
    : found.uid !== uid
      ? `belongs to user ${found.uid}, not to you (${uid})`
      : 'is open to other users';
  throw new BangerError('invalid_state', `"${path}" ${why}`, {
    hint: isOurs
      ? `Close it with: chmod 700 ${shellWord(path)}`
      : `Have it removed, or choose another place: BANGER_HOME=DIR banger …`,
  });
}
