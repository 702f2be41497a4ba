import { BangerError } from '../../errors.ts';
import { shellQuote } from '../../host/shell-quote.ts';
import type { WorkspaceContext } from '../context.ts';
import type { GuestChanges, GuestWorkspace } from './guest-tree/guest-changes.ts';
import { findOwn } from './guest-tree/own-commits.ts';
import { submoduleMode } from './host-tree/index-entries.ts';
import { isTreePath, pathText, splitRaw } from './host-tree/raw-path.ts';
import { findRepository, type Repository } from './host-tree/repository.ts';
import { shown } from './sending/workspace-place.ts';

/** A guest has work that a patch of its tree leaves out. The hint says how to get it. */
export class UnsavedWorkError extends BangerError {}

/**
 * Throws when a guest has work that is in no patch of its tree: commits beside its HEAD that the host does not have,
 * stashes among them, and changes in repositories inside the tree.
 */
export async function refuseUnsaved(
  { exec }: Pick<WorkspaceContext, 'exec'>,
  { workspace, changes: { nested }, hostPath }: Unsaved,
): Promise<void> {
  const { vmName, guestPath, signal } = workspace;
  if (nested.length > 0) {
    const names = nested.map(pathText);
    const look = shellQuote(['git', '-C', `${guestPath}/${names[0]!}`, 'status']);
    throw new UnsavedWorkError(
      'invalid_state',
      `what changed in repositories inside the tree is in no patch: ${shown(names)}`,
      { hint: `See it with: banger vm exec ${vmName} -- ${look}` },
    );
  }
  const own = await findOwn(workspace, 'unmerged', () => repositoriesOf(exec, hostPath, signal));
  if (own.length === 0) return;
  // A stash is no branch, and is not fetched.
  const branch = shellQuote(['git', '-C', guestPath, 'branch', 'stashed', 'stash']);
  const first = own.includes('stash') ? `banger vm exec ${vmName} -- ${branch}; ` : '';
  throw new UnsavedWorkError(
    'invalid_state',
    `commits or stashes beside the branch that is checked out are in no patch: ${shown(own)}`,
    { hint: `Get them with: ${first}git fetch banger::${vmName}${guestPath} 'refs/heads/*:refs/vm/*'` },
  );
}

interface Unsaved {
  readonly workspace: GuestWorkspace;
  readonly changes: Pick<GuestChanges, 'nested'>;
  readonly hostPath: string;
}

/** The repository of a tree, then those of its submodules; none when the tree is gone. */
async function* repositoriesOf(
  exec: WorkspaceContext['exec'],
  path: string,
  signal: AbortSignal,
): AsyncGenerator<Repository> {
  const repository = await findRepository(exec, path, signal).catch((error: unknown) => {
    // Gone, moved away, or another now: then what the guest has is here in no repository.
    if (error instanceof BangerError && ['not_found', 'invalid_argument'].includes(error.code))
      return undefined;
    throw error;
  });
  if (repository?.topLevel !== path) return;
  yield repository;
  for (const line of splitRaw((await repository.git(['ls-files', '-s', '-z'])).stdout)) {
    const [, mode, inner] = /^(\d{6}) [0-9a-f]+ [0-3]\t([^]+)$/.exec(line) ?? [];
    if (mode === submoduleMode && isTreePath(inner!))
      yield* repositoriesOf(exec, `${path}/${pathText(inner!)}`, signal);
  }
}
