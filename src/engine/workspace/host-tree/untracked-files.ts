import { lstat, realpath } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { BangerError, errnoOf } from '../../../errors.ts';
import type { GitVariables } from './scratch-objects.ts';
import { displayPath, splitRaw, type RawPath } from './raw-path.ts';
import type { Repository } from './repository.ts';

/** What git does not track in a tree: what of it travels, and how much stays behind. */
export interface UntrackedFiles {
  /** Files that travel */
  readonly added: readonly RawPath[];
  /** Untracked files and repositories that stay behind, ignored ones not counted */
  readonly untracked: number;
  /** Ignored files, and directories that are ignored as a whole, that stay behind */
  readonly ignored: number;
  readonly warnings: readonly string[];
}

export interface UntrackedWanted {
  readonly includeUntracked: boolean;
  /** Below the tree, as bytes; the tree itself is empty */
  readonly include: readonly RawPath[];
}

/** Decides which files that git does not track travel: none but those that were asked for. */
export async function findUntracked(
  { git }: Repository,
  { includeUntracked, include }: UntrackedWanted,
  env: GitVariables,
): Promise<UntrackedFiles> {
  const list = async (...args: string[]): Promise<RawPath[]> =>
    splitRaw((await git(['ls-files', '--others', '-z', ...args], { env })).stdout);
  const [untracked, ignored, named] = await Promise.all([
    list('--exclude-standard'),
    list('--exclude-standard', '--ignored', '--directory'),
    listNamed(list, include),
  ]);
  const added = new Set([...(includeUntracked ? untracked.filter(isFile) : []), ...named]);
  return {
    added: [...added],
    untracked: untracked.filter((path) => !added.has(path)).length,
    ignored: ignored.filter((path) => !added.has(path) && !include.some((root) => isBelow(path, root)))
      .length,
    warnings: (includeUntracked ? untracked : [])
      .filter((path) => !isFile(path))
      .map((path) => `"${displayPath(path)}" is a repository of its own and stays behind`),
  };
}

async function listNamed(
  list: (...args: string[]) => Promise<RawPath[]>,
  include: readonly RawPath[],
): Promise<RawPath[]> {
  const named: RawPath[] = [];
  for (const root of include) {
    // Programs get their arguments as UTF-8, which is how the path came.
    const pathspec = root === '' ? ':(top)' : `:(top,literal)${Buffer.from(root, 'latin1').toString()}`;
    named.push(...(await list('--', pathspec)));
  }
  const nested = named.find((path) => !isFile(path));
  if (nested === undefined) return named;
  const shown = displayPath(nested).replace(/\/$/, '');
  throw new BangerError('invalid_argument', `"${shown}" is a repository of its own and cannot be included`, {
    hint: `Send it to a place of its own: banger workspace prepare ${shown} --guest-path /root/${shown}`,
  });
}

/** The last part may be a symlink, which is what travels then; those above it are resolved as git does. */
export async function resolvePlace(path: string): Promise<string> {
  return join(await realpath(dirname(path)).catch(() => dirname(path)), basename(path));
}

/**
 * Turns paths that a user named into paths below a tree. Throws for one that is not there, unless it need not be, is
 * outside of the tree, or belongs to git.
 */
export async function resolveIncludes(
  topLevel: string,
  paths: readonly string[],
  { mayBeGone = false }: { readonly mayBeGone?: boolean } = {},
): Promise<RawPath[]> {
  return Promise.all(
    paths.map(async (path) => {
      const real = await resolvePlace(path);
      const below = relative(topLevel, real);
      try {
        await lstat(real);
      } catch (error) {
        const errno = errnoOf(error);
        if (errno !== 'ENOENT' && errno !== 'ENOTDIR') throw error;
        if (!mayBeGone)
          throw new BangerError('not_found', `There is no "${path}" to include`, {
            hint: 'Paths to include are looked for below the working tree',
            cause: error,
          });
      }
      const parts = below.split('/');
      if (parts[0] === '..' || parts.some((part) => part.toLowerCase() === '.git')) {
        throw new BangerError('invalid_argument', `"${path}" is not a file of the tree "${topLevel}"`, {
          hint: 'Give a file or directory below the working tree',
        });
      }
      return Buffer.from(below).toString('latin1');
    }),
  );
}

/** True for a path that is `root`, or in that directory. */
export function isBelow(path: RawPath, root: RawPath): boolean {
  return root === '' || path === root || path.startsWith(`${root}/`);
}

/** Git lists a repository inside the tree as one directory. */
function isFile(path: RawPath): boolean {
  return !path.endsWith('/');
}
