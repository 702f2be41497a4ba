import { lstat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errnoOf } from '../../../errors.ts';
import { pathsWithAttribute } from './filtered-paths.ts';
import { displayPath, type RawPath } from './raw-path.ts';
import type { Repository } from './repository.ts';
import type { GitVariables } from './scratch-objects.ts';

export interface ViewInput {
  readonly paths: readonly RawPath[];
  /** Names the index */
  readonly env: GitVariables;
  /** Objects in whose place git shows others here */
  readonly replaced: number;
}

/** Warns of what makes git show something else here than it can in a guest, though both have the same. */
export async function ownViewWarnings(repository: Repository, input: ViewInput): Promise<string[]> {
  const { replaced } = input;
  const objects = replaced === 1 ? 'an object is' : `${replaced} objects are`;
  return [
    ...(replaced === 0
      ? []
      : [`By "git replace" ${objects} shown as others here; in the VM git shows what they are`]),
    ...((await hasGrafts(repository))
      ? ['".git/info/grafts" gives commits other parents here; in the VM they have their own']
      : []),
    ...settingWarnings(repository),
    ...(await driverWarnings(repository, input)),
  ];
}

async function hasGrafts({ paths }: Repository): Promise<boolean> {
  // Asked for its path, git would tell where it was told to look instead; see `host-git.ts`.
  try {
    return (await lstat(join(dirname(paths.exclude), 'grafts'))).size > 0;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return false;
    throw error;
  }
}

function settingWarnings({ config }: Repository): string[] {
  const names = [
    ['diff.external', 'diff.external'],
    ['diff.orderfile', 'diff.orderFile'],
  ] as const;
  return names
    .filter(([name]) => (config.get(name)?.at(-1) ?? '') !== '')
    .map(([, name]) => `The setting ${name} stays behind: "git diff" in the VM shows changes without it`);
}

/** A program makes text of a file, to be compared, or compares it itself. */
async function driverWarnings(repository: Repository, { paths, env }: ViewInput): Promise<string[]> {
  const drivers = new Map<RawPath, string>();
  for (const name of repository.config.keys()) {
    const [, driver] = /^diff\.([^]+)\.(?:textconv|command)$/.exec(name) ?? [];
    if (driver !== undefined) drivers.set(Buffer.from(driver).toString('latin1'), name);
  }
  if (drivers.size === 0) return [];
  const found = await pathsWithAttribute(repository, { attribute: 'diff', values: drivers, paths, env });
  if (found.length === 0) return [];
  const names = found.slice(0, 3).map(({ path }) => `"${displayPath(path)}"`);
  const more = found.length > names.length ? ` and ${found.length - names.length} more` : '';
  const settings = [...new Set(found.map(({ value }) => drivers.get(value)!))].join(', ');
  return [
    `${names.join(', ')}${more}: "git diff" here shows changes by a program of this host (${settings}), in the VM as they are`,
  ];
}
