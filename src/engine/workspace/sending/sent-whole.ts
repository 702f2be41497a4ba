import { promisorRemote } from '../host-tree/git-config.ts';
import { submoduleMode } from '../host-tree/index-entries.ts';
import type { WorkingTree } from '../host-tree/inspect-tree.ts';
import type { ConflictPolicy } from './build-update.ts';
import { detachmentFile, isUnderWayFile } from '../host-tree/repository-state.ts';
import type { There } from './workspace-place.ts';

/**
 * Whether all of a tree is sent though the guest has an earlier state of it: where an update would be a mixture of
 * the two, or of the guest's doings and the host's.
 */
export function isSentWhole(
  { repository, state, submodules }: WorkingTree,
  { manifest, changes, isUnderWay }: There,
  policy: ConflictPolicy,
): boolean {
  const hasSubmodules =
    submodules.length > 0 || [...manifest.files.values()].some(({ mode }) => mode === submoduleMode);
  if (hasSubmodules || promisorRemote(repository.config) !== undefined) return true;

  const paths = [...state.files.map(({ path }) => path), ...Object.keys(manifest.texts ?? {})];
  if (paths.some(isUnderWayFile)) return true;
  const detachment = state.files.find(({ path }) => path === detachmentFile)?.bytes.toString('latin1');
  if (detachment !== manifest.texts?.[detachmentFile]) return true;
  // Nobody knows whether the guest began it.
  if (isUnderWay && manifest.texts === undefined) return true;

  return policy === 'overwrite' && (isUnderWay || changes.nested.length > 0);
}
