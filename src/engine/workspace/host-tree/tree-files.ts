import { lstatSync, readlinkSync, type BigIntStats } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { abortError, BangerError, errnoOf } from '../../../errors.ts';
import { displayPath, hostPath, type RawPath } from './raw-path.ts';

/** A file of the host's working tree, as it was when it was looked at. */
export interface TreeFile {
  readonly path: RawPath;
  /** Permission bits; execution is what git cares about */
  readonly mode: number;
  readonly mtimeSeconds: number;
  /** 0 for symlinks */
  readonly sizeBytes: number;
  /** Bytes of a symlink's target; absent for regular files */
  readonly target?: Buffer;
  /** Equal as long as the file is */
  readonly stamp: string;
  /** Where it is, when not in the working tree */
  readonly source?: Buffer;
}

export interface TreeFiles {
  readonly files: readonly TreeFile[];
  /** What is something git does not track now: pipes, sockets, devices */
  readonly special: readonly RawPath[];
}

/** How long files are looked at before others get a turn. */
const sliceMs = 5;

/**
 * Looks at files of a working tree. Those that are gone, or became directories, are left out, as are those below a
 * symlink: they are not in this tree.
 *
 * One after the other in this thread, a few milliseconds at a time: handing each to another thread takes five times as
 * long as looking. Git has just been here, so what a slow disk or network holds is in memory.
 */
export async function statTreeFiles(
  topLevel: string,
  paths: readonly RawPath[],
  signal: AbortSignal,
): Promise<TreeFiles> {
  const isDirectory = directoryCheck(topLevel);
  const files: TreeFile[] = [];
  const special: RawPath[] = [];
  let sliceEnd = performance.now() + sliceMs;
  for (const path of paths) {
    const file = statTreeFile(topLevel, path, isDirectory);
    if (file === 'special') special.push(path);
    else if (file) files.push(file);
    if (performance.now() < sliceEnd) continue;
    await setImmediate();
    if (signal.aborted) throw abortError(signal);
    sliceEnd = performance.now() + sliceMs;
  }
  return { files, special };
}

/** What tells one state of a file from the next. */
export function stampOf(stats: BigIntStats): string {
  const { dev, ino, mode, size, mtimeNs, ctimeNs } = stats;
  // Joined it is one piece; put together by a template it would be eleven in memory.
  return [dev, ino, mode, size, mtimeNs, ctimeNs].join(':');
}

function statTreeFile(
  topLevel: string,
  path: RawPath,
  isDirectory: (path: RawPath) => boolean,
): TreeFile | 'special' | undefined {
  const slash = path.lastIndexOf('/');
  if (slash !== -1 && !isDirectory(path.slice(0, slash))) return undefined;
  const place = hostPath(topLevel, path);
  const stats = statIfThere(place, path);
  if (stats === undefined || stats.isDirectory()) return undefined;
  if (!stats.isFile() && !stats.isSymbolicLink()) return 'special';
  return {
    path,
    mode: Number(stats.mode & 0o777n),
    mtimeSeconds: Math.max(0, Math.floor(Number(stats.mtimeMs) / 1000)),
    sizeBytes: stats.isFile() ? Number(stats.size) : 0,
    target: stats.isFile() ? undefined : readlinkSync(place, { encoding: 'buffer' }),
    stamp: stampOf(stats),
  };
}

/** Tells whether a path and all above it are real directories; each is looked at once. */
function directoryCheck(topLevel: string): (path: RawPath) => boolean {
  const known = new Map<RawPath, boolean>();
  const check = (path: RawPath): boolean => {
    const slash = path.lastIndexOf('/');
    if (slash !== -1 && !isDirectory(path.slice(0, slash))) return false;
    return statIfThere(hostPath(topLevel, path), path)?.isDirectory() ?? false;
  };
  const isDirectory = (path: RawPath): boolean => {
    const answer = known.get(path) ?? check(path);
    known.set(path, answer);
    return answer;
  };
  return isDirectory;
}

function statIfThere(place: string | Buffer, path: RawPath): BigIntStats | undefined {
  try {
    return lstatSync(place, { bigint: true, throwIfNoEntry: false });
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return undefined;
    throw unreadable(path, error);
  }
}

export function unreadable(path: RawPath, cause: unknown): BangerError {
  return new BangerError('invalid_argument', `"${displayPath(path)}" cannot be read: ${errnoOf(cause)}`, {
    hint: 'Change its permissions, or take it out of git with: git rm --cached',
    cause,
  });
}
