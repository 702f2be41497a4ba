import { chmod, lstat, mkdir, mkdtemp, readdir, rename, rm, statfs } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { BangerError } from '../../../errors.ts';
import { lstatIfThere } from './move-files.ts';
import { hostBytes, type RawPath } from '../host-tree/raw-path.ts';
import type { Repository } from '../host-tree/repository.ts';
import type { GitVariables } from '../host-tree/scratch-objects.ts';

const prefix = 'banger-apply-';
/** What is older than this was left by an engine that was killed. */
const leftoverMs = 60 * 60_000;

/** Of a directory that is kept for the user; it takes neither room nor a new name. */
const closedMode = 0o500;

/** A disk with less than this is full: a file is not written in pieces that are smaller. */
const fullBytes = 64 * 1024;

/** A directory on the filesystem of a working tree, where git and its status do not see it. */
export interface Staging {
  /** New files, by their paths in the tree */
  readonly files: string;
  /** For files that are replaced */
  readonly backups: string;
  /** Has those stay for the user when they cannot be put back, and returns where they are then */
  readonly keep: () => Promise<string>;
}

/**
 * Runs a task with a place for new files, inside the repository, that goes afterwards. From there a file gets to its
 * place by a new name, without being written once more.
 */
export async function withStaging<T>(
  { paths, topLevel }: Repository,
  task: (staging: Staging) => Promise<T>,
): Promise<T> {
  const parent = (await isOnOneFilesystem(paths.git, topLevel)) ? paths.git : topLevel;
  await removeLeftovers(parent);
  const directory = await mkdtemp(join(parent, parent === topLevel ? `.${prefix}` : prefix));
  let isKept = false;
  const keep = async (backups: string): Promise<string> => {
    const kept = join(parent, basename(directory).replace(prefix, 'banger-kept-'));
    try {
      await rename(backups, kept);
      return kept;
    } catch {
      // The only copies: they stay as they are, and closed directories are no leftovers.
      isKept = true;
      await chmod(directory, closedMode).catch(() => undefined);
      return backups;
    }
  };
  try {
    const files = join(directory, 'files');
    const backups = join(directory, 'backups');
    for (const each of [files, backups]) await mkdir(each, { mode: 0o700 });
    return await task({ files, backups, keep: () => keep(backups) });
  } finally {
    if (!isKept) await rm(directory, { recursive: true, force: true });
  }
}

/**
 * Has git write files from an index as they are to be in the working tree, with its line ends and encodings, but not
 * there. Attributes are those of that index; filters are switched off. Throws before anything of the tree changes.
 */
export async function stageFiles(
  { git, topLevel }: Repository,
  {
    paths,
    env,
    directory,
  }: { readonly paths: readonly RawPath[]; readonly env: GitVariables; readonly directory: string },
): Promise<Map<RawPath, Buffer>> {
  if (paths.length === 0) return new Map();
  const input = Buffer.from(paths.map((path) => `${path}\0`).join(''), 'latin1');
  const options = { env: { ...env, GIT_WORK_TREE: directory }, input, okExitCodes: [1, 128] };
  const { exitCode, stderr } = await git(['checkout-index', '-q', '-f', '-z', '--stdin'], options);
  if (exitCode === 0) return new Map(paths.map((path) => [path, hostBytes(directory, path)]));
  const why = stderr
    .trim()
    .replace(/^(?:error|fatal): /gm, '')
    .replaceAll(`${directory}/`, '')
    .split('\n')
    .join('; ');
  throw await cannotStage(topLevel, why);
}

/** Git does not say why it could not write a file. */
async function cannotStage(topLevel: string, why: string): Promise<BangerError> {
  const { bavail, bsize } = await statfs(topLevel);
  if (bavail * bsize < fullBytes)
    return new BangerError(
      'host_unsupported',
      `The disk is full: no space left to write the changed files of "${topLevel}" (git: ${why}); nothing was written`,
      { hint: `See what takes it with: df -h ${topLevel}` },
    );
  return new BangerError(
    'command_failed',
    `git cannot write the changed files of "${topLevel}": ${why}; nothing was written`,
    { hint: `Get them as a patch instead: banger workspace export ${topLevel} -o changes.patch` },
  );
}

async function isOnOneFilesystem(one: string, other: string): Promise<boolean> {
  const [first, second] = await Promise.all([lstat(one), lstat(other)]);
  return first.dev === second.dev;
}

async function removeLeftovers(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    if (!name.startsWith(prefix) && !name.startsWith(`.${prefix}`)) continue;
    const path = join(parent, name);
    const stats = await lstatIfThere(Buffer.from(path));
    if (!stats || (Number(stats.mode) & 0o777) === closedMode) continue;
    if (Date.now() - Number(stats.mtimeMs) > leftoverMs) await rm(path, { recursive: true, force: true });
  }
}
