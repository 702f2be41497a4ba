import { lstat, mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError, errnoOf } from '../../../errors.ts';
import { parseGitConfig } from './git-config.ts';
import { submoduleMode, type IndexEntry } from './index-entries.ts';
import type { WorkingTree } from './inspect-tree.ts';
import { displayPath, hostBytes, isTreePath, pathText, type RawPath } from './raw-path.ts';
import type { Repository } from './repository.ts';

/** A repository inside a working tree, of which that one's index names a commit. */
export interface Submodule {
  readonly path: RawPath;
  /** Where its repository goes, below `modules` of the outer one's; absent for one that has no name in `.gitmodules` */
  readonly name?: RawPath;
  /** Absent when it is not initialised: then it is an empty directory */
  readonly tree?: WorkingTree;
}

export interface FoundSubmodules {
  readonly submodules: readonly Submodule[];
  readonly warnings: readonly string[];
}

/** Reads the submodules of a working tree; each that is initialised by `inspect`, which gets a directory of its own. */
export async function findSubmodules(
  repository: Repository,
  entries: readonly IndexEntry[],
  {
    scratch,
    inspect,
  }: {
    readonly scratch: string;
    readonly inspect: (path: string, scratch: string) => Promise<WorkingTree>;
  },
): Promise<FoundSubmodules> {
  const links = entries.filter((entry) => entry.mode === submoduleMode).map((entry) => entry.path);
  const paths = [...new Set(links)];
  if (paths.length === 0) return { submodules: [], warnings: [] };
  const names = await submoduleNames(repository);
  const submodules: Submodule[] = [];
  const warnings: string[] = [];
  for (const [at, path] of paths.entries()) {
    const kind = await kindOf(repository.topLevel, path);
    if (kind === undefined) continue;
    const name = names.get(path);
    if (kind === 'repository') {
      const own = join(scratch, `submodule-${at}`);
      await mkdir(own, { mode: 0o700 });
      submodules.push({ path, name, tree: await inspectAt(repository, path, (top) => inspect(top, own)) });
      continue;
    }
    submodules.push({ path, name });
    if (kind === 'occupied') {
      warnings.push(
        `"${displayPath(path)}" is a submodule without its repository; the files in it stay behind`,
      );
    }
  }
  for (const { tree, path } of submodules) {
    warnings.push(...(tree?.warnings ?? []).map((warning) => `In "${displayPath(path)}": ${warning}`));
  }
  return { submodules, warnings };
}

async function inspectAt(
  { topLevel }: Repository,
  path: RawPath,
  inspect: (path: string) => Promise<WorkingTree>,
): Promise<WorkingTree> {
  const text = pathText(path);
  const directory = `${topLevel}/${text}`;
  if (/\n/.test(text) || !Buffer.from(text).equals(Buffer.from(path, 'latin1'))) {
    throw refusal(path, 'has a name that is not UTF-8 or has a line break');
  }
  const tree = await inspect(directory);
  // A `.git` that leads nowhere lets git find the repository around it instead.
  if (tree.repository.topLevel !== directory) {
    throw refusal(path, `has a .git that belongs to "${tree.repository.topLevel}"`);
  }
  return tree;
}

function refusal(path: RawPath, why: string): BangerError {
  return new BangerError('invalid_argument', `The submodule "${displayPath(path)}" ${why}`, {
    hint: `Take it out, or make it anew: git submodule update --init ${displayPath(path)}`,
  });
}

/** Names by path, as `.gitmodules` of the working tree says; names that would lead elsewhere are not believed. */
async function submoduleNames({ git, topLevel }: Repository): Promise<Map<RawPath, RawPath>> {
  const file = join(topLevel, '.gitmodules');
  const stats = await statIfThere(Buffer.from(file));
  if (!stats?.isFile()) return new Map();
  const listed = await git(['config', '-f', file, '--no-includes', '--list', '-z'], {
    okExitCodes: [1, 3, 128],
  });
  const names = new Map<RawPath, RawPath>();
  for (const [key, values] of parseGitConfig(listed.stdout)) {
    const match = /^submodule\.([^]+)\.path$/.exec(key);
    const name = match && Buffer.from(match[1]!).toString('latin1');
    if (!name || !isTreePath(name)) continue;
    names.set(Buffer.from(values.at(-1)!).toString('latin1'), name);
  }
  return names;
}

async function kindOf(
  topLevel: string,
  path: RawPath,
): Promise<'repository' | 'empty' | 'occupied' | undefined> {
  const parts = path.split('/');
  for (let count = 1; count <= parts.length; count++) {
    const stats = await statIfThere(hostBytes(topLevel, parts.slice(0, count).join('/')));
    if (!stats?.isDirectory()) return undefined;
  }
  if (await statIfThere(hostBytes(topLevel, `${path}/.git`))) return 'repository';
  return (await readdir(hostBytes(topLevel, path))).length === 0 ? 'empty' : 'occupied';
}

async function statIfThere(path: Buffer): Promise<Awaited<ReturnType<typeof lstat>> | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}
