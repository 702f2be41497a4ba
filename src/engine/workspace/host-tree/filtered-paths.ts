import { displayPath, splitRaw, type RawPath } from './raw-path.ts';
import type { Repository } from './repository.ts';
import type { GitVariables } from './scratch-objects.ts';

/**
 * Finds paths that go through a filter driver (LFS and the like) on this host. What git has stored of them is not what
 * lies in the working tree.
 */
export async function filteredPaths(
  repository: Repository,
  paths: readonly RawPath[],
  env: GitVariables = {},
): Promise<RawPath[]> {
  const drivers = new Set<string>();
  for (const name of repository.config.keys()) {
    const match = /^filter\.([^]+)\.(?:clean|process)$/.exec(name);
    if (match) drivers.add(Buffer.from(match[1]!).toString('latin1'));
  }
  if (drivers.size === 0 || paths.length === 0) return [];
  const found = await pathsWithAttribute(repository, { attribute: 'filter', values: drivers, paths, env });
  return found.map(({ path }) => path);
}

/** Finds paths for which an attribute has one of some values. */
export async function pathsWithAttribute(
  { git }: Repository,
  {
    attribute,
    values,
    paths,
    env,
  }: {
    readonly attribute: string;
    /** Bytes, one per character */
    readonly values: Pick<ReadonlySet<string>, 'has'>;
    readonly paths: readonly RawPath[];
    readonly env: GitVariables;
  },
): Promise<{ readonly path: RawPath; readonly value: string }[]> {
  const input = Buffer.from(paths.map((path) => `${path}\0`).join(''), 'latin1');
  const fields = splitRaw((await git(['check-attr', '-z', '--stdin', attribute], { env, input })).stdout);
  const found: { path: RawPath; value: string }[] = [];
  for (let at = 0; at + 2 < fields.length; at += 3) {
    if (values.has(fields[at + 2]!)) found.push({ path: fields[at]!, value: fields[at + 2]! });
  }
  return found;
}

/**
 * Warns of changed files that `git apply` on the host would look at through a filter, so that a patch of the files as
 * they are does not fit. Nothing without a repository: the tree may be gone, and patches can go anywhere.
 */
export async function patchFilterWarnings(
  repository: Repository | undefined,
  { paths, signal }: { readonly paths: readonly RawPath[]; readonly signal: AbortSignal },
): Promise<string[]> {
  if (!repository || paths.length === 0) return [];
  let filtered: RawPath[];
  try {
    filtered = await filteredPaths(repository, paths);
  } catch {
    signal.throwIfAborted();
    return [];
  }
  if (filtered.length === 0) return [];
  const names = filtered.slice(0, 3).map((path) => `"${displayPath(path)}"`);
  const more = filtered.length > names.length ? ` and ${filtered.length - names.length} more` : '';
  return [
    `${names.join(', ')}${more}: a git filter of this host, such as LFS, hides what the patch changes; apply it with: banger workspace apply`,
  ];
}
