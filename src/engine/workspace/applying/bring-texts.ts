import type { Operation } from '../../operations.ts';
import { askSizes, fetchBlobs, type FetchTarget } from '../guest-tree/fetch-blobs.ts';
import type { GuestWorkspace } from '../guest-tree/guest-changes.ts';
import { blobSizes } from '../host-tree/blob-sizes.ts';
import { mostMergedBytes } from './merge-content.ts';

/** Sees to it that git here can compare these blobs, and tells which of them it can: some are too large, or nowhere. */
export type BringTexts = (oids: readonly string[]) => Promise<ReadonlySet<string>>;

/** Gets what is not here from a guest, into the scratch objects. */
export function bringTextsFrom(
  workspace: GuestWorkspace,
  target: FetchTarget,
  operation: Pick<Operation, 'progress'>,
): BringTexts {
  return async (oids) => {
    const here = await blobSizes(target.repository, oids, target.env);
    const missing = oids.filter((oid) => !here.has(oid));
    const there = await askSizes(workspace, missing);
    const isText = ([, size]: readonly [string, number]): boolean => size <= mostMergedBytes;
    const wanted = [...there].filter(isText).map(([oid]) => oid);
    await fetchBlobs(workspace, wanted, target, operation);
    return new Set([...[...here].filter(isText).map(([oid]) => oid), ...wanted]);
  };
}
