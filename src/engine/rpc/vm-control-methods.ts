import * as z from 'zod/mini';
import { errorCodes } from '../../errors.ts';
import { method, question } from './method.ts';
import { portRequest, protocol, publishedSocket } from './port-schemas.ts';
import { vmStates } from '../../state/vm-states.ts';
import {
  fileSync,
  labels,
  labelSelector,
  maxFileSyncs,
  reference,
  stopAfterMs,
  vmName,
  vmView,
} from './vm-methods.ts';

/**
 * Finds the VMs that several references or labels mean, all of them at one moment. A reference that means none
 * says so in its place, and does not keep the others from being found. A VM that is meant twice is told once.
 */
export const vmSelect = question(
  'vm.select',
  z.object({
    references: z._default(z.array(reference), []),
    /** All of these; used when there are no references */
    labels: z._default(z.array(labelSelector), []),
  }),
  z.array(
    z.union([
      z.object({ id: z.string(), name: z.string() }),
      z.object({
        error: z.object({
          code: z.enum(errorCodes),
          message: z.string(),
          hint: z.optional(z.string()),
        }),
      }),
    ]),
  ),
);

/** Makes a running VM's processors stand still, keeping its memory. One that is paused is left alone. */
export const vmPause = method('vm.pause', z.object({ vm: reference }), vmView);

/** Lets a paused VM go on. One that runs is left alone. */
export const vmResume = method('vm.resume', z.object({ vm: reference }), vmView);

const size = z.int().check(z.minimum(1));

/**
 * Changes a VM. What its VMM cannot change while it runs (processors, memory; the host name and the filesystem of a
 * guest that does not answer) applies from its next start on. All of it is done, or nothing.
 */
export const vmSet = method(
  'vm.set',
  z.object({
    vm: reference,
    name: z.optional(vmName),
    cpus: z.optional(size),
    memoryMib: z.optional(size),
    /** Only ever larger */
    diskBytes: z.optional(size),
    labels: z._default(labels, {}),
    removeLabels: z._default(z.array(z.string()), []),
    publish: z._default(z.array(portRequest), []),
    /** Ports of the host that no longer lead into it */
    unpublish: z._default(
      z.array(
        z.object({
          protocol: z._default(protocol, 'tcp'),
          hostPort: z.int(),
          /** Where it has to lead from and to; absent: wherever it does */
          bind: z.optional(z.string()),
          guestPort: z.optional(z.int()),
        }),
      ),
      [],
    ),
    /** Whether whatever listens in it is published, as long as it listens */
    publishAll: z.optional(z.boolean()),
    publishSockets: z._default(z.array(publishedSocket), []),
    /** Paths of the host that no longer lead into it */
    unpublishSockets: z._default(z.array(z.string()), []),
    /** What it may reach outside, or rules that are added or taken away */
    egress: z.optional(z.array(z.string())),
    egressChange: z._default(z.enum(['replace', 'add', 'remove']), 'replace'),
    /** Also when it ends connections to the VM, and what runs over them */
    force: z._default(z.boolean(), false),
    fileSync: z._default(z.array(fileSync).check(z.maxLength(maxFileSyncs)), []),
    /** Guest paths of what it gets no copies of any more; what is there stays */
    removeFileSync: z._default(z.array(z.string()), []),
    /** Null: as long as it likes. Counts from now on when it runs. */
    ttlMs: z.optional(z.nullable(stopAfterMs)),
    idleStopMs: z.optional(z.nullable(stopAfterMs)),
  }),
  z.extend(vmView, {
    /** What holds from now on, by the names of the parameters */
    applied: z.array(z.string()),
    /** What was changed and holds from the next start on; `pending` has the values */
    atNextStart: z.array(z.string()),
  }),
);

/** What a VM can be sent, by the names of signals. */
export const vmSignals = ['KILL', 'TERM', 'INT', 'QUIT', 'HUP', 'PWR', 'STOP', 'CONT'] as const;
export type VmSignal = (typeof vmSignals)[number];

/** Sends a VM a signal: KILL ends the VMM, STOP and CONT pause and resume, the others press the power button. */
export const vmKill = method(
  'vm.kill',
  z.object({ vm: reference, signal: z._default(z.enum(vmSignals), 'KILL') }),
  vmView,
);

export const waitTargets = ['running', 'ready', 'paused', 'stopped', 'deleted'] as const;

/** Waits until a VM is in a state; `ready`: it runs and its guest answers. One that is deleted has stopped, too. */
export const vmWait = question(
  'vm.wait',
  z.object({
    vm: reference,
    for: z._default(z.enum(waitTargets), 'stopped'),
    timeoutMs: z.optional(z.int().check(z.minimum(0))),
  }),
  z.object({
    id: z.string(),
    name: z.string(),
    state: z.enum([...vmStates, 'deleted']),
    /** Why it is not running, when that was not asked for */
    reason: z.optional(z.string()),
  }),
);

/** Deletes stopped VMs with their disks; those that run, or are about to, stay. */
export const vmPrune = method(
  'vm.prune',
  z.object({
    labels: z._default(z.array(labelSelector), []),
    /** Only these, by id; absent: all that match */
    ids: z.optional(z.array(z.string())),
    dryRun: z._default(z.boolean(), false),
  }),
  z.object({
    removed: z.array(
      z.object({
        id: z.string(),
        name: z.string(),
        image: z.string(),
        bytes: z.number(),
        stoppedAt: z.optional(z.string()),
      }),
    ),
    /** What could not be deleted, and why */
    failed: z.array(z.object({ id: z.string(), name: z.string(), message: z.string() })),
    freedBytes: z.number(),
  }),
);
