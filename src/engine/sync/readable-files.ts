import { realpathSync, readlinkSync, statSync, type Stats } from 'node:fs';
import { dirname, isAbsolute, relative, resolve } from 'node:path';
import { BangerError, errnoOf } from '../../errors.ts';
import { expandHome, type FileSync } from '../../state/file-sync.ts';
import { formatBytes } from '../../state/units.ts';
import { cannotUse } from '../copy/cannot-use.ts';
import { localMembers, type CopyCount } from '../copy/local-tar.ts';
import { endOfTar } from '../images/export/tar-writer.ts';

/** Dotfiles and credentials, no trees of work: more is a mistake, such as a cache that lies among them. */
const maxBytes = 64 * 1024 ** 2;
const maxFiles = 10_000;

/** Something of the host that can be sent. */
export interface ReadableFile {
  readonly file: FileSync;
  /** Where it is, symlinks followed */
  readonly path: string;
}

/** How much has been taken of what may be sent at once. */
export interface Budget {
  bytes: number;
  files: number;
}

/**
 * Looks at a file or directory that is to be sent. Undefined when it is missing and may be. Throws when it cannot be
 * read, is neither, or there is more of it than `budget` has left.
 */
export async function lookAtFile(
  file: FileSync,
  where: { readonly home: string; readonly budget: Budget; readonly notes: Set<string> },
): Promise<ReadableFile | undefined> {
  const path = findFile(file, where.home);
  if (path === undefined) return undefined;
  const budget = { ...where.budget };
  // All of it is read once: what cannot be read is known before the guest gets any of it.
  for await (const piece of members({ file, path }, '', budget, where.notes)) void piece;
  Object.assign(where.budget, budget);
  return { file, path };
}

/** A tar of several, each called by its place in the list. */
export async function* tarOfFiles(files: readonly ReadableFile[]): AsyncGenerator<Buffer> {
  const budget = { bytes: 0, files: 0 };
  for (const [index, file] of files.entries()) yield* members(file, String(index), budget, new Set());
  yield endOfTar;
}

function findFile({ host, optional }: FileSync, home: string): string | undefined {
  let stats: Stats;
  let path: string;
  try {
    path = realpathSync(expandHome(host, home));
    stats = statSync(path);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno !== 'ENOENT' && errno !== 'ENOTDIR' && errno !== 'ELOOP') throw cannotUse(host, error);
    if (optional) return undefined;
    throw new BangerError('not_found', `There is no "${host}" on this host to be sent to the VM`, {
      hint: 'Correct the path (--file-sync, or file_sync in the configuration, where "optional = true" lets it be missing)',
    });
  }
  if (stats.isFile() || stats.isDirectory()) return path;
  throw new BangerError('invalid_argument', `"${host}" is neither a file nor a directory`);
}

function members(
  { file, path }: ReadableFile,
  name: string,
  budget: Budget,
  notes: Set<string>,
): AsyncGenerator<Buffer> {
  const count: CopyCount = { files: 0, bytes: 0, notes: new Set() };
  const take = (stats: Stats): void => {
    budget.files++;
    if (stats.isFile()) budget.bytes += stats.size;
    if (budget.files > maxFiles) throw tooMuch(file, `${maxFiles} files`);
    if (budget.bytes > maxBytes) throw tooMuch(file, formatBytes(maxBytes));
  };
  take(statSync(path));
  const admits = (source: Buffer, stats: Stats): boolean => {
    // Those that are nothing without the program that listens, such as an agent's.
    if (!stats.isFile() && !stats.isDirectory() && !stats.isSymbolicLink()) return false;
    if (stats.isSymbolicLink() && leadsOut(path, source)) {
      const below = relative(path, source.toString());
      notes.add(`"${file.host}/${below}" is a symlink that leads out of "${file.host}" and stays behind`);
      return false;
    }
    take(stats);
    return true;
  };
  return localMembers({ path, name, follow: false, keepOwners: false, count, admits });
}

/** In the guest there is nothing around the directory: only relative ways within it lead somewhere there. */
function leadsOut(root: string, link: Buffer): boolean {
  const path = link.toString();
  const target = readlinkSync(path);
  return isAbsolute(target) || isOutside(root, resolve(dirname(path), target)) || isOutside(root, real(path));
}

/** Where a symlink leads in the end; what is missing is where it says. */
function real(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

function isOutside(root: string, path: string): boolean {
  return path !== root && !path.startsWith(`${root}/`);
}

function tooMuch({ host }: FileSync, limit: string): BangerError {
  return new BangerError(
    'invalid_argument',
    `"${host}" and what else is sent to the VM at its start is more than ${limit}`,
    {
      hint: 'Name fewer files and directories in it; for more there is: banger vm cp',
    },
  );
}
