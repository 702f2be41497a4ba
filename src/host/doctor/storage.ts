import { constants } from 'node:fs';
import { access, mkdtemp, readFile, realpath, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errnoOf, errorText } from '../../errors.ts';
import { fail, gib, mib, pass, sizeText, skip, warn, type CheckResult, type Subject } from './check.ts';

const comfortableBytes = 5 * gib;
const minBytes = 512 * mib;

/** How much the filesystem that a directory is on, or will be on, has left for us. */
export async function checkSpace(
  subject: Subject,
  directory: string,
  freeBytes: (directory: string) => Promise<number> = freeBytesAt,
): Promise<CheckResult> {
  const existing = await nearestExisting(directory);
  const bytes = await freeBytes(existing);
  const evidence = `${sizeText(bytes)} free at ${existing}`;
  const fix = 'Delete what is not used: banger image list; banger vm list';
  if (bytes < minBytes) return fail(subject, evidence, fix);
  return bytes < comfortableBytes ? warn(subject, evidence, fix) : pass(subject, evidence);
}

/** A cache that nothing may be executed from is worth a word: SQLite is loaded from there. */
export async function checkExecutable(
  subject: Subject,
  directory: string,
  mountinfo: string,
): Promise<CheckResult> {
  const path = await realpath(await nearestExisting(directory));
  const mount = findMount(mountinfo, path);
  if (!mount) return skip(subject, `no mount is known for ${path}`);
  if (!mount.options.includes('noexec')) return pass(subject, `${mount.point} lets programs be loaded`);
  return warn(
    subject,
    `${mount.point} is mounted noexec: SQLite is loaded from another place, if there is one`,
    'Use a cache elsewhere: XDG_CACHE_HOME=DIR banger doctor',
  );
}

/** Makes a file in a directory of its own, and removes both. */
export async function checkTemporaryDirectory(directory: string): Promise<CheckResult> {
  const subject = { id: 'temporary-directory', title: 'Temporary files' };
  try {
    const own = await mkdtemp(join(directory, 'banger-doctor-'));
    try {
      await writeFile(join(own, 'file'), 'something');
    } finally {
      await rm(own, { recursive: true, force: true });
    }
    return pass(subject, `${directory} can be written to`);
  } catch (error) {
    return fail(subject, errorText(error), 'Choose a directory that can be written to: export TMPDIR=DIR');
  }
}

/** The same, if we may make something there. */
export async function nearestWritable(directory: string): Promise<string | undefined> {
  const path = await nearestExisting(directory);
  try {
    await access(path, constants.W_OK);
    return path;
  } catch {
    return undefined;
  }
}

/** The directory itself, or whichever above it is there. */
export async function nearestExisting(directory: string): Promise<string> {
  for (let path = directory; ; path = dirname(path)) {
    try {
      await stat(path);
      return path;
    } catch (error) {
      const errno = errnoOf(error);
      if ((errno !== 'ENOENT' && errno !== 'ENOTDIR') || path === dirname(path)) throw error;
    }
  }
}

/** A file that may be missing: empty then. */
export async function readOptional(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '');
}

async function freeBytesAt(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory);
  return bavail * bsize;
}

interface Mount {
  readonly point: string;
  readonly options: readonly string[];
}

/** The mount a path is on: the longest mount point above it, and of several there, the one mounted last (proc(5)). */
function findMount(mountinfo: string, path: string): Mount | undefined {
  let found: Mount | undefined;
  for (const line of mountinfo.split('\n')) {
    const fields = line.split(' ');
    const point = fields[4]?.replace(/\\([0-7]{3})/g, (_, digits: string) =>
      String.fromCharCode(Number.parseInt(digits, 8)),
    );
    if (point === undefined || !isBelow(path, point)) continue;
    if (found && point.length < found.point.length) continue;
    found = { point, options: (fields[5] ?? '').split(',') };
  }
  return found;
}

function isBelow(path: string, point: string): boolean {
  return path === point || point === '/' || path.startsWith(`${point}/`);
}
