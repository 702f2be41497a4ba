import { submoduleMode, type IndexEntry } from '../host-tree/index-entries.ts';
import type { WorkingTree } from '../host-tree/inspect-tree.ts';
import type { Manifest } from './manifest.ts';
import type { RawPath } from '../host-tree/raw-path.ts';

export interface KnownPathsInput {
  /** Of the working tree's index */
  readonly entries: readonly Pick<IndexEntry, 'path' | 'mode' | 'stage'>[];
  /** Those of the tree that is sent */
  readonly files: ReadonlyMap<RawPath, unknown>;
}

/** Whether an index has the paths of what is sent, no other ones, and nothing but files and symlinks. */
export function hasSamePaths({ entries, files }: KnownPathsInput): boolean {
  const isPlain = ({ path, mode, stage }: KnownPathsInput['entries'][number]): boolean =>
    stage === 0 && mode !== submoduleMode && files.has(path);
  return entries.length === files.size && entries.every(isPlain);
}

/**
 * Whether files that an index takes for unchanged have there the content that is sent. One that goes through a filter of
 * this host has not: the guest's git, which has none, would believe the index.
 */
export function hasSameContent({ entries, touched }: WorkingTree, files: Manifest['files']): boolean {
  return entries.every(({ path, oid }) => files.get(path)?.oid === oid || touched.has(path));
}
