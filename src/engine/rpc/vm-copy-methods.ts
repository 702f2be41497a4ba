import * as z from 'zod/mini';
import { question, streamMethod } from './method.ts';
import { reference } from './vm-methods.ts';

/** A path in a guest: absolute, normalised, and without a slash at its end. */
const guestPath = z.string().check(z.regex(/^\/(?:[^\0]*[^/\0])?$/, 'is not an absolute path'));

export const guestPathKinds = ['file', 'directory', 'symlink', 'other', 'missing', 'no-parent'] as const;

/**
 * Tells what is at a path of a running VM. With `follow`, of a symlink what it leads to; one that leads to nothing is
 * then `missing`, as what could be made through it. `no-parent`: there is not even a directory to make it in.
 */
export const vmPath = question(
  'vm.path',
  z.object({ vm: reference, path: guestPath, follow: z.boolean() }),
  z.object({
    kind: z.enum(guestPathKinds),
    /** Of a file; 0 for everything else */
    sizeBytes: z.number(),
  }),
);

/**
 * Sends a tar of what is at a path, in stdout frames: of a directory its content below `./`, of anything else one
 * entry with its name. The exit frame is a `copyOutSummary`. Nothing in it can be trusted.
 */
export const vmCopyOut = streamMethod(
  'vm.copy-out',
  z.object({
    vm: reference,
    path: guestPath,
    kind: z.enum(['file', 'directory', 'symlink', 'other']),
    follow: z.boolean(),
    /** For progress only */
    totalBytes: z.optional(z.number()),
  }),
);

export const copyOutSummary = z.object({
  /** What the guest's tar complained about though it went on */
  warnings: z.array(z.string()),
});

/**
 * Unpacks a tar from stdin frames as root. `directory`: into the directory at the path. `file`: its one entry, which is
 * called "file", takes the place of what is at the path, once it is complete; with `follow`, of what a symlink there
 * leads to.
 */
export const vmCopyIn = streamMethod(
  'vm.copy-in',
  z.object({
    vm: reference,
    path: guestPath,
    as: z.enum(['directory', 'file']),
    follow: z.boolean(),
    totalBytes: z.optional(z.number()),
  }),
);
