import * as z from 'zod/mini';
import { questionStream } from './method.ts';

export const logSources = ['console', 'vmm', 'engine'] as const;

/**
 * One of a VM's logs, as stdout frames: bytes as they were written, or for `engine` those lines of the engine's log
 * that are about this VM, each a JSON object.
 */
export const vmLogs = questionStream(
  'vm.logs',
  z.object({
    vm: z.string(),
    source: z._default(z.enum(logSources), 'console'),
    /** The last lines only; absent: all that is kept */
    tail: z.optional(z.int().check(z.minimum(0))),
    /** Milliseconds since 1970: what was written before is left out. The engine's log alone tells times. */
    since: z.optional(z.int()),
    /** Goes on until the VM stops */
    follow: z._default(z.boolean(), false),
  }),
);
