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
  from: AttributesFrom = 'tree',
): Promise<RawPath[]> {
  const drivers = new Set<string>();
  for (const name of repository.config.keys()) {
    const match = /^filter\.([^]+)\.(?:clean|process)$/.exec(name);
    if (match) drivers.add(Buffer.from(match[1]!).toString('latin1'));
  }
  if (drivers.size === 0 || paths.length === 0) return [];
  const found = await pathsWithAttribute(repository, {
    attribute: 'filter',
    values: drivers,
    paths,
    env,
    from,
  });
  return found.map(({ path }) => path);
}

/** Whether the files of the working tree say which attributes there are, or those of the index that `env` names. */
type AttributesFrom = 'tree' | 'index';

/** Says of files behind a filter how they are in the guest. */
export function filterWarnings({
  filtered,
  asStored = [],
}: {
  readonly filtered: ReadonlySet<RawPath>;
  readonly asStored?: readonly RawPath[];
}): string[] {
  const warn = (paths: readonly RawPath[], what: string): string[] =>
    paths.length === 0
      ? []
      : [
          `${someOf(paths)} ${paths.length === 1 ? 'goes' : 'go'} through a git filter of this host, such as LFS${what}`,
        ];
  return [
    ...warn([...filtered], ': sent as in the working tree, and committed in the guest without it'),
    ...warn(
      asStored,
      ', and the commit that the branch begins at has it otherwise: sent as git has stored it, which for LFS is a pointer. To send the files themselves, switch to that commit here, and leave out --from',
    ),
  ];
}

function someOf(paths: readonly RawPath[]): string {
  const names = paths.slice(0, 3).map((path) => `"${displayPath(path)}"`);
  return `${names.join(', ')}${paths.length > names.length ? ` and ${paths.length - names.length} more` : ''}`;
}

/** Finds paths for which an attribute has one of some values. */
export async function pathsWithAttribute(
  { git }: Repository,
  {
    attribute,
    values,
    paths,
    env,
    from = 'tree',
  }: {
    readonly attribute: string;
    /** Bytes, one per character */
    readonly values: Pick<ReadonlySet<string>, 'has'>;
    readonly paths: readonly RawPath[];
    readonly env: GitVariables;
    readonly from?: AttributesFrom;
  },
): Promise<{ readonly path: RawPath; readonly value: string }[]> {
  const input = Buffer.from(paths.map((path) => `${path}\0`).join(''), 'latin1');
  const cached = from === 'index' ? ['--cached'] : [];
  const asked = await git(['check-attr', ...cached, '-z', '--stdin', attribute], { env, input });
  const fields = splitRaw(asked.stdout);
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
  return [
    `${someOf(filtered)}: a git filter of this host, such as LFS, hides what the patch changes; apply it with: banger workspace apply`,
  ];
}
