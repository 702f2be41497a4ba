import * as z from 'zod/mini';
import { method } from './method.ts';

/** What may be in the way: `blob` is a downloaded layer, `partial` one that is not complete, `staging` left over. */
export const pruneKinds = ['image', 'blob', 'partial', 'staging'] as const;

const pruneItem = z.object({
  kind: z.enum(pruneKinds),
  /** Id of an image, digest of a blob, name of a file */
  id: z.string(),
  /** Names of an image, as people write them */
  names: z.array(z.string()),
  /** Space it takes on the host */
  bytes: z.number(),
  /** Why it goes, or why it stays */
  why: z.string(),
});
export type PruneItem = z.output<typeof pruneItem>;

export const pruneReport = z.object({
  removed: z.array(pruneItem),
  kept: z.array(pruneItem),
  freedBytes: z.number(),
});
export type PruneReport = z.output<typeof pruneReport>;

/**
 * Removes images without a name (with `all` every image that no VM uses), and downloads that no image needs (with
 * `all` every download). What work in progress needs stays. A dry run only says what would happen.
 */
export const imagePrune = method(
  'image.prune',
  z.object({ all: z._default(z.boolean(), false), dryRun: z._default(z.boolean(), false) }),
  pruneReport,
);
