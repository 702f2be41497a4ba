import * as z from 'zod/mini';
import { method, question, streamMethod, type ResultOf } from './method.ts';
import { templateChoice, trustTools } from './template-methods.ts';

const absolutePath = z.string().check(z.regex(/^\//));

/** A branch that only the guest gets, and what it begins at: HEAD when absent. */
export const guestBranch = z.object({
  name: z.string().check(z.minLength(1)),
  from: z.optional(z.string().check(z.minLength(1))),
});

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

/** What of the repository is no part of the branch that travels, and stays on the host. */
const leftBehind = z.object({ branches: z.int(), tags: z.int(), stashes: z.int() });

/** Which tree is sent, and what of it besides tracked files. */
const treeParams = {
  path: absolutePath,
  includeUntracked: z._default(z.boolean(), false),
  /** Files and directories of the tree that travel though git does not track them, ignored or not */
  include: z._default(z.array(absolutePath), []),
};

/** Where it goes; without `vm`, the one bound to the tree. */
const placeParams = { vm: z.optional(z.string()), guestPath: z.optional(z.string()) };

/** A tree that was sent: by a directory of it here, or the VM, or both; and where it is there, if in several places. */
const workspaceParams = { path: z.optional(absolutePath), ...placeParams };

/**
 * Sends a git working tree into a VM: tracked files with their dirty content, and enough git metadata to work.
 * Without `vm`: the VM bound to this tree, else a new one.
 */
export const workspacePrepare = method(
  'workspace.prepare',
  z.object({
    ...treeParams,
    ...placeParams,
    /** Replaces what is in the guest, changes made there included */
    overwrite: z._default(z.boolean(), false),
    /** Install the tools that the tree names for mise */
    bootstrap: z._default(z.boolean(), true),
    trustTools,
    /** What the tree says about its VM, for when one is made */
    template: templateChoice,
    /** All commits of HEAD, not the last ones only */
    fullHistory: z._default(z.boolean(), false),
    /** Absent: the branch that is checked out */
    guestBranch: z.optional(guestBranch),
    /** Files arrive without write permission, and nothing is exported */
    readonly: z._default(z.boolean(), false),
  }),
  z.extend(workspaceView, {
    /** Files whose content was sent */
    files: z.int(),
    /** Of everything that was sent */
    bytes: z.number(),
    /** Absent when all of the tree was sent, because nothing was there */
    update: z.optional(
      z.object({
        removed: z.int(),
        /** Files that were changed in the guest alone, and stay as they are there */
        kept: z.array(z.string()),
        /** Files that both sides changed, left as they are in the guest */
        conflicts: z.array(z.string()),
      }),
    ),
    /** Untracked files that stayed behind, ignored ones not counted */
    untracked: z.int(),
    /** Ignored files, and directories ignored as a whole, that stayed behind */
    ignored: z.int(),
    leftBehind,
    /** True when a VM was made for it */
    created: z.boolean(),
    warnings: z.array(z.string()),
  }),
);

/**
 * What `workspace.prepare` would send to a VM that has nothing of the tree. Makes no VM and touches none. Stdout frames
 * carry lines of JSON: a `planHead`, then a `plannedFile` for each file, as many as it counts.
 */
export const workspacePlan = streamMethod(
  'workspace.plan',
  z.object({
    ...treeParams,
    guestBranch: z.optional(guestBranch),
  }),
);

export const planHead = z.object({
  hostPath: z.string(),
  head: z.optional(z.string()),
  branch: z.optional(z.string()),
  /** Files that would travel */
  count: z.int(),
  /** Index and history */
  repositoryBytes: z.number(),
  /** Files and repository */
  bytes: z.number(),
  untracked: z.int(),
  ignored: z.int(),
  leftBehind,
  warnings: z.array(z.string()),
});

export const plannedFile = z.object({ path: z.string(), bytes: z.number() });

export type WorkspacePlan = z.output<typeof planHead> & {
  readonly files: readonly z.output<typeof plannedFile>[];
};

/**
 * Sends a working tree as `workspace.prepare` does, and again whenever it changes, until the client goes or the VM stops.
 * Tells of it as stdout frames, each line a `WatchLine` as JSON.
 */
export const workspaceWatch = streamMethod(
  'workspace.watch',
  z.object({
    ...treeParams,
    ...placeParams,
    /** Changes made in the guest give way; else files that both sides changed stay as they are there */
    overwrite: z._default(z.boolean(), false),
    /** Absent: the branch that is checked out. What it begins at is looked up once, when watching begins */
    guestBranch: z.optional(guestBranch),
  }),
);

export type WatchLine =
  | ({ readonly kind: 'sent' } & ResultOf<typeof workspacePrepare>)
  | { readonly kind: 'failed'; readonly message: string; readonly hint?: string };

/** A file that differs from what was sent. The guest says so: its path is safe to join, not safe to print. */
export const workspaceChange = z.object({
  /** Below the workspace; quoted as git quotes it when it is not UTF-8 */
  path: z.string(),
  status: z.enum(['added', 'deleted', 'modified', 'type-changed']),
  /** Lines, absent for binary files */
  added: z.optional(z.int()),
  removed: z.optional(z.int()),
  /** Sizes of a binary file, where they were asked for; 0 where it does not exist */
  oldBytes: z.optional(z.int()),
  newBytes: z.optional(z.int()),
});
export type WorkspaceChange = z.output<typeof workspaceChange>;

/** A commit in a guest. The guest says so. */
export const guestCommit = z.object({ oid: z.string(), subject: z.string() });
export type GuestCommit = z.output<typeof guestCommit>;

export const exportFormats = ['patch', 'list', 'commits'] as const;

/**
 * What changed in the guest since it was prepared. Stdout frames carry an `exportHead` as one line of JSON, then the
 * binary-safe patch (guest commits included), nothing (`list`), or the guest's commits as mails.
 */
export const workspaceExport = streamMethod(
  'workspace.export',
  z.object({
    ...workspaceParams,
    format: z.enum(exportFormats),
  }),
);

export const exportHead = z.object({
  vm: z.string(),
  hostPath: z.string(),
  guestPath: z.string(),
  /** Git tree of what was sent */
  baseTree: z.string(),
  /** What changed; with `commits`, what is not committed and so not in the mails */
  files: z.array(workspaceChange),
  /** Those in the mails, the oldest first */
  commits: z.optional(z.array(guestCommit)),
  /** Those that a merge brought: they are in its mail, and have none of their own */
  merged: z.optional(z.array(guestCommit)),
  warnings: z.array(z.string()),
});
export type ExportHead = z.output<typeof exportHead>;

/**
 * Speaks git's pack protocol, as `git upload-pack` does, for the repository of a workspace: stdin and stdout frames are
 * the connection. `place`: the path in the guest, or its end, where the VM has several.
 */
export const workspaceUploadPack = streamMethod(
  'workspace.upload-pack',
  z.object({ vm: z.string(), place: z.optional(z.string()) }),
);

/** Workspaces of a VM, the latest first, or of all of them; with `path`, those made from the tree that holds it. */
export const workspaceList = question('workspace.list', z.object(workspaceParams), z.array(workspaceView));

/** A file that differs from what was sent, and what became of it on the host. */
export const appliedChange = z.extend(workspaceChange, {
  /** `present`: the host's file has this change already, or it was applied before; `merged`: both sides changed it */
  outcome: z.enum(['applied', 'merged', 'present', 'conflict']),
  /** Where the file is on the host, when it was moved there since it was sent */
  movedTo: z.optional(z.string()),
  /** Kind of a conflict, as git names it */
  conflict: z.optional(
    z.enum([
      'content',
      'add/add',
      'modify/delete',
      'rename/delete',
      'rename/rename',
      'file location',
      'file/directory',
      'distinct types',
      'submodule',
    ]),
  ),
  /** What is in conflict, in git's words */
  reason: z.optional(z.string()),
  /** Whether the file here is written, or would be without `dryRun` and other files' conflicts; lines and bytes are those written */
  isWritten: z.boolean(),
});
export type AppliedChange = z.output<typeof appliedChange>;

/** Merges what changed in the guest into the working tree on the host. With conflicts nothing is written, unless asked for. */
export const workspaceApply = method(
  'workspace.apply',
  z.object({
    ...workspaceParams,
    /** Works all of it out and writes nothing */
    dryRun: z._default(z.boolean(), false),
    /** Writes files with conflicts too, with git's conflict markers */
    markers: z._default(z.boolean(), false),
    /** Changed files, as they are named in the result, that stay as they are here; what the guest has of them counts as applied */
    ours: z._default(z.array(z.string()), []),
    /** Permissions that new files do not get; the caller's own */
    umask: z._default(z.int().check(z.gte(0), z.lte(0o777)), 0o022),
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
