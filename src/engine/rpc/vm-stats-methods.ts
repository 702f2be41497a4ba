import * as z from 'zod/mini';
import { vmStates } from '../../state/vm-states.ts';
import { question } from './method.ts';
import { protocol } from './port-schemas.ts';
import { labelSelector, reference } from './vm-methods.ts';

/** What a VM uses now. Sizes in bytes; what counts up does so since its start. */
export const vmStatsView = z.object({
  id: z.string(),
  name: z.string(),
  state: z.enum(vmStates),
  time: z.string(),
  /** Its VMM as a process of the host. 100 percent is one processor. */
  vmm: z.optional(
    z.object({
      cpuPercent: z.number(),
      cpuSeconds: z.number(),
      memoryBytes: z.number(),
      readBytes: z.optional(z.number()),
      writeBytes: z.optional(z.number()),
    }),
  ),
  cpus: z.int(),
  memoryLimitBytes: z.number(),
  /** What its disk takes on the host, and how large it is for the guest */
  diskUsedBytes: z.number(),
  diskBytes: z.number(),
  /** What the guest says */
  guest: z.optional(
    z.object({
      load: z.array(z.number()),
      memoryTotalBytes: z.number(),
      memoryAvailableBytes: z.number(),
      diskTotalBytes: z.number(),
      diskUsedBytes: z.number(),
      receivedBytes: z.number(),
      sentBytes: z.number(),
    }),
  ),
  /** Why the guest says nothing */
  guestError: z.optional(z.string()),
});

/** Measures VMs: those named, else those with all the labels. VMs that are gone are left out. */
export const vmStats = question(
  'vm.stats',
  z.object({
    ids: z.optional(z.array(z.string())),
    labels: z._default(z.array(labelSelector), []),
  }),
  z.array(vmStatsView),
);

/** What listens in a guest, and where on the host it can be reached. */
export const vmPorts = question(
  'vm.ports',
  z.object({ vm: reference }),
  z.object({
    id: z.string(),
    name: z.string(),
    ports: z.array(
      z.object({
        protocol,
        /** Address in the guest that it listens on; `0.0.0.0` and `::` mean all */
        address: z.string(),
        port: z.int(),
        /** As the guest names it */
        process: z.optional(z.string()),
        pid: z.optional(z.int()),
        /** Addresses of the host that lead to it */
        published: z.array(z.string()),
      }),
    ),
  }),
);
