import * as z from 'zod/mini';
import { vmStates } from '../../state/vm-states.ts';
import { question } from './method.ts';
import { reference } from './vm-methods.ts';

/** What a VM may reach outside, and how it is held to that. */
export const vmEgress = question(
  'vm.egress',
  z.object({ vm: reference }),
  z.object({
    id: z.string(),
    name: z.string(),
    state: z.enum(vmStates),
    network: z.string(),
    /** `all`, `none`, or rules */
    egress: z.array(z.string()),
    /** Absent while there is none: with `all`, and while the VM does not run */
    proxy: z.optional(
      z.object({
        /** As the guest finds it */
        url: z.string(),
        isUp: z.boolean(),
        problem: z.optional(z.string()),
      }),
    ),
  }),
);

const entry = z.object({
  /** Of the last of `count` */
  time: z.string(),
  /** As the guest named it */
  host: z.string(),
  port: z.int(),
  verdict: z.enum(['allowed', 'blocked']),
  /** Why it was blocked */
  reason: z.optional(z.string()),
  /** The rule that allowed it, or that came nearest */
  rule: z.optional(z.string()),
  /** How often in a row */
  count: z.int(),
});

/** The latest connections that a VM's guest asked its proxy for, oldest first; since the VM's start, or the engine's. */
export const vmEgressLog = question(
  'vm.egress.log',
  z.object({ vm: reference }),
  z.object({ id: z.string(), name: z.string(), entries: z.array(entry) }),
);
