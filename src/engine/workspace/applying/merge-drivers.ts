import type { MergeInput } from './merge-changes.ts';
import { splitRaw, type RawPath } from '../host-tree/raw-path.ts';

/** How versions of a file are merged: those drivers that git has built in. */
export type MergeDriver = 'text' | 'binary' | 'union';

/**
 * Asks git which drivers the attributes of the host's tree, as it was before, name for files. Drivers that are programs
 * of the host do not run over what a guest sends: such files are merged as text.
 */
export async function mergeDrivers(
  paths: readonly RawPath[],
  { repository, env }: Pick<MergeInput, 'repository' | 'env'>,
): Promise<Map<RawPath, MergeDriver>> {
  if (paths.length === 0) return new Map();
  const input = Buffer.from(paths.map((path) => `${path}\0`).join(''), 'latin1');
  const asked = await repository.git(['check-attr', '--cached', '-z', '--stdin', 'merge'], { env, input });
  const fields = splitRaw(asked.stdout);
  const drivers = new Map<RawPath, MergeDriver>();
  for (let at = 0; at + 2 < fields.length; at += 3)
    drivers.set(fields[at]!, driverOf(fields[at + 2]!, repository.config));
  return drivers;
}

function driverOf(value: string, config: MergeInput['repository']['config']): MergeDriver {
  // As git: only what says nothing of it follows the setting.
  const name = value === 'unspecified' ? (config.get('merge.default')?.at(-1) ?? 'text') : value;
  if (name === 'unset' || name === 'binary') return 'binary';
  return name === 'union' ? 'union' : 'text';
}
