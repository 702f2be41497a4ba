import { randomBytes } from 'node:crypto';
import type { Stats } from 'node:fs';
import { lstat, mkdir, open, readdir, rename, rmdir, unlink, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { BangerError, errnoOf, errorText } from '../errors.ts';

/** One file of the cache, and how to make it. */
export interface CachedAsset {
  readonly cacheDirectory: string;
  readonly buildId: string;
  readonly fileName: string;
  readonly mode: 0o400 | 0o500;
  /** Absent when the asset does not say */
  readonly sizeBytes: number | undefined;
  readonly open: () => Readable;
}

const unusedMs = 30 * 24 * 60 * 60 * 1000;
const abandonedMs = 60 * 60 * 1000;
const touchAfterMs = 24 * 60 * 60 * 1000;

/**
 * Makes sure that `<cacheDirectory>/<buildId>/<fileName>` is there, complete and ours, and returns its path.
 *
 * The file appears under its name only when all of it is on disk, so several processes may do this at once.
 * A directory that others can write to is refused (`invalid_state`): what is in it gets executed.
 */
export async function unpackAsset(asset: CachedAsset): Promise<string> {
  const directory = join(asset.cacheDirectory, asset.buildId);
  const path = join(directory, asset.fileName);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await checkDirectory(asset.cacheDirectory);
  const status = await checkDirectory(directory);

  const found = await findStatus(path);
  if (found && isIntact(found, asset)) {
    if (Date.now() - status.mtimeMs > touchAfterMs) await touch(directory);
    return path;
  }
  await publish(asset, directory, path);
  await pruneBuilds(asset.cacheDirectory, asset.buildId, Date.now());
  return path;
}

/**
 * Removes directories of other builds that nobody has used for 30 days, and what killed processes left half-written.
 *
 * Touches only what has our names; anything else in a directory keeps that directory. Failures are left for next time.
 */
export async function pruneBuilds(cacheDirectory: string, currentId: string, now: number): Promise<void> {
  for (const id of await namesIn(cacheDirectory)) {
    if (!/^(dev-[0-9a-f]{8}|[0-9a-f]{16})$/.test(id)) continue;
    const directory = join(cacheDirectory, id);
    const status = await findStatus(directory);
    if (!status?.isDirectory() || status.uid !== process.geteuid!()) continue;
    const isUnused = id !== currentId && now - status.mtimeMs > unusedMs;
    await pruneBuild(directory, isUnused, now);
  }
}

async function checkDirectory(path: string): Promise<Stats> {
  const status = await lstat(path);
  const problem = !status.isDirectory()
    ? 'is not a directory'
    : status.uid !== process.geteuid!()
      ? `belongs to user ${status.uid}, not to user ${process.geteuid!()}`
      : (status.mode & 0o077) !== 0
        ? `is open to other users (mode ${(status.mode & 0o777).toString(8)})`
        : undefined;
  if (problem === undefined) return status;
  throw new BangerError('invalid_state', `Cache directory "${path}" ${problem}`, {
    hint: `It holds nothing but copies. Move it away: mv ${path} ${path}.old`,
  });
}

function isIntact(status: Stats, asset: CachedAsset): boolean {
  return (
    status.isFile() &&
    status.uid === process.geteuid!() &&
    (status.mode & 0o777) === asset.mode &&
    (asset.sizeBytes === undefined || status.size === asset.sizeBytes)
  );
}

async function publish(asset: CachedAsset, directory: string, path: string): Promise<void> {
  const temporary = join(directory, `.${asset.fileName}.${process.pid}.${randomBytes(6).toString('hex')}`);
  try {
    const file = await open(temporary, 'wx', 0o600);
    try {
      let written = 0;
      for await (const chunk of asset.open()) {
        await file.writeFile(chunk as Buffer);
        written += (chunk as Buffer).length;
      }
      if (asset.sizeBytes !== undefined && written !== asset.sizeBytes) {
        throw new Error(`${written} bytes instead of ${asset.sizeBytes}`);
      }
      await file.chmod(asset.mode);
      // A crash of the host must not leave a short file under the final name: mapping one ends in SIGBUS.
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw new BangerError('internal', `"${path}" cannot be unpacked: ${errorText(error)}`, {
      hint: `See whether there is room: df -h ${directory}`,
      cause: error,
    });
  }
}

async function pruneBuild(directory: string, isUnused: boolean, now: number): Promise<void> {
  for (const name of await namesIn(directory)) {
    const path = join(directory, name);
    const isTemporary = /^\.[\w.-]+\.\d+\.[0-9a-f]{12}$/.test(name);
    const status = await findStatus(path);
    if (!status?.isFile()) continue;
    const isAbandoned = isTemporary && now - status.mtimeMs > abandonedMs;
    // Our finished files are read-only; something with another mode is somebody else's.
    const isOurs = isTemporary || [0o400, 0o500].includes(status.mode & 0o777);
    if (isAbandoned || (isUnused && isOurs)) await unlink(path).catch(() => undefined);
  }
  // Fails while there is anything left, as it should.
  if (isUnused) await rmdir(directory).catch(() => undefined);
}

async function touch(directory: string): Promise<void> {
  const now = new Date();
  // Only prolongs the life of the directory: not worth failing for.
  await utimes(directory, now, now).catch(() => undefined);
}

/** Empty when it cannot be read: pruning is best effort. */
async function namesIn(directory: string): Promise<string[]> {
  return readdir(directory).catch(() => []);
}

async function findStatus(path: string): Promise<Stats | undefined> {
  return lstat(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  });
}
