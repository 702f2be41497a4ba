import * as z from 'zod/mini';
import { method } from './method.ts';

const absolutePath = z.string().check(z.regex(/^\//));

export const workspaceView = z.object({
  vm: z.string(),
  hostPath: z.string(),
  guestPath: z.string(),
  /** Commit at HEAD, absent on an unborn branch */
  head: z.optional(z.string()),
  branch: z.optional(z.string()),
  preparedAt: z.string(),
});
export type WorkspaceView = z.output<typeof workspaceView>;

/**
 * Sends a git working tree into a VM: tracked files with their dirty content, and enough git metadata to work.
 * Without `vm`: the VM bound to this tree, else a new one.
 */
export const workspacePrepare = method(
  'workspace.prepare',
  z.object({
    path: absolutePath,
    vm: z.optional(z.string()),
    guestPath: z.optional(absolutePath),
    includeUntracked: z._default(z.boolean(), false),
    /** Replaces what is in the guest, changes made there included */
    overwrite: z._default(z.boolean(), false),
  }),
  z.extend(workspaceView, {
    files: z.int(),
    bytes: z.number(),
    /** Untracked files that stayed behind, ignored ones not counted */
    untracked: z.int(),
    /** True when a VM was made for it */
    created: z.boolean(),
    warnings: z.array(z.string()),
  }),
);

/** A file that differs from what was sent. The guest says so: its path is safe to join, not safe to print. */
export const workspaceChange = z.object({
  /** Below the workspace; quoted as git quotes it when it is not UTF-8 */
  path: z.string(),
  status: z.enum(['added', 'deleted', 'modified', 'type-changed']),
  /** Lines, absent for binary files */
  added: z.optional(z.int()),
  removed: z.optional(z.int()),
});
export type WorkspaceChange = z.output<typeof workspaceChange>;

/** Patches larger than this do not fit into one message of the protocol, in base64 and with their list of files. */
export const maxExportedPatchBytes = 10 * 1024 * 1024;

/** What changed in the guest since it was prepared, guest commits included, as a binary-safe patch. */
export const workspaceExport = method(
  'workspace.export',
  z.object({ path: z.optional(absolutePath), vm: z.optional(z.string()) }),
  z.object({
    vm: z.string(),
    hostPath: z.string(),
    guestPath: z.string(),
    /** Git tree of what was sent */
    baseTree: z.string(),
    /** Git tree of the workspace as it is now; the guest's repository has it too */
    tree: z.string(),
    /** Base64, since patches need not be UTF-8 */
    patch: z.string(),
    files: z.array(workspaceChange),
    warnings: z.array(z.string()),
  }),
);

/** A file that differs from what was sent, and what became of it on the host. */
export const appliedChange = z.extend(workspaceChange, {
  /** `present`: the host's file has this change already; `merged`: both sides changed it */
  outcome: z.enum(['applied', 'merged', 'present', 'conflict']),
  /** Why it is a conflict */
  reason: z.optional(z.string()),
});
export type AppliedChange = z.output<typeof appliedChange>;

/** Merges what changed in the guest into the working tree on the host. With conflicts nothing is written, unless asked for. */
export const workspaceApply = method(
  'workspace.apply',
  z.object({
    path: z.optional(absolutePath),
    vm: z.optional(z.string()),
    /** Works all of it out and writes nothing */
    dryRun: z._default(z.boolean(), false),
    /** Writes files with conflicts too, with git's conflict markers */
    markers: z._default(z.boolean(), false),
  }),
  z.object({
    vm: z.string(),
    hostPath: z.string(),
    guestPath: z.string(),
    files: z.array(appliedChange),
    /** False when nothing was written: a dry run, or conflicts */
    isApplied: z.boolean(),
    hasConflicts: z.boolean(),
    warnings: z.array(z.string()),
  }),
);
