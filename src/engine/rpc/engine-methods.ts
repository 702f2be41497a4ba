import * as z from 'zod/mini';
import { question } from './method.ts';

export const engineStatus = question(
  'engine.status',
  z.object({}),
  z.object({
    pid: z.int(),
    version: z.string(),
    build: z.string(),
    startedAt: z.string(),
    stateDirectory: z.string(),
    socket: z.string(),
    log: z.string(),
    /** Where names of VMs are answered for, such as 127.0.0.1:10053; absent when nowhere */
    names: z.optional(z.string()),
    runningVms: z.int(),
    operations: z.array(z.object({ id: z.string(), kind: z.string(), subject: z.optional(z.string()) })),
    memoryBytes: z.int(),
  }),
);

/** Ends the engine (asked twice, it ends once); VMs go on running. Refused (`busy`) while operations are under way, unless they are to be cancelled. */
export const engineStop = question(
  'engine.stop',
  z.object({ force: z._default(z.boolean(), false) }),
  z.object({ pid: z.int() }),
);
