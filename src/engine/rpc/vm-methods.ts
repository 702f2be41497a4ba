import * as z from 'zod/mini';
import { vmStates } from '../../state/vm-states.ts';
import { method, question, streamMethod } from './method.ts';
import { portRequest, publishedPort, publishedSocket } from './port-schemas.ts';
import { templateChoice, trustTools } from './template-methods.ts';
import { guestBranch } from './workspace-methods.ts';

const labelKey = z
  .string()
  .check(
    z.regex(
      /^[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?$/,
      'a label is 1 to 128 of letters, digits, ".", "_", "/" and "-", and begins and ends with a letter or digit',
    ),
  );
const labelValue = z
  .string()
  .check(z.regex(/^\P{Cc}{0,1024}$/u, 'the value of a label is at most 1024 printable characters'));
export const labels = z
  .record(labelKey, labelValue)
  .check(z.refine((all) => Object.keys(all).length <= 64, 'a VM has at most 64 labels'));

/** VMs with this label, whatever its value unless one is given */
export const labelSelector = z.object({ key: labelKey, value: z.optional(labelValue) });
export type LabelSelector = z.output<typeof labelSelector>;

/** Something of the host of which a VM gets a copy at each start. */
export const fileSync = z.object({
  /** Absolute, or below the user's home as `~/…` */
  host: z.string().check(z.regex(/^(?:~?\/)/)),
  /** Absolute */
  guest: z.string().check(z.regex(/^\//)),
});

/** A time after which a running VM is stopped, in milliseconds. Unused or running: the caller says what it counts. */
export const stopAfterMs = z.int().check(z.minimum(1_000), z.maximum(10 * 365 * 86_400_000));

/** A VM as clients see it. Host paths and process ids stay inside the engine. */
export const vmView = z.object({
  id: z.string(),
  name: z.string(),
  state: z.enum(vmStates),
  image: z.string(),
  cpus: z.int(),
  memoryMib: z.int(),
  diskBytes: z.number(),
  /** `user`, `none`, or the name of a network */
  network: z.string(),
  /** Its IPv4 address, on a network behind a bridge */
  address: z.optional(z.string()),
  createdAt: z.string(),
  startedAt: z.optional(z.string()),
  stoppedAt: z.optional(z.string()),
  /** Why it is not running, when that was not asked for */
  lastError: z.optional(z.string()),
  /** `firecracker (kvm)`, `qemu (kvm)` or `qemu (tcg)`, while it runs */
  vmm: z.optional(z.string()),
  /** Why that one was chosen, as one phrase, while it runs */
  vmmReason: z.optional(z.string()),
  /** Address of the guest's SSH service; absent: the host's loopback, which leads there */
  sshHost: z.optional(z.string()),
  /** Its port, while it runs */
  sshPort: z.optional(z.int()),
  /** The guest kernel's boot id, while it runs: the same as long as it was not rebooted */
  bootId: z.optional(z.string()),
  labels,
  ports: z.array(publishedPort),
  /** Unix sockets of the host that lead into it */
  sockets: z.array(z.object({ hostPath: z.string(), guestPath: z.string() })),
  /** Whether whatever listens in it is published */
  publishesAll: z.boolean(),
  /** What it may reach outside: `all`, `none`, or rules */
  egress: z.array(z.string()),
  /** How long it may run after a start, and being unused */
  ttlMs: z.optional(z.int()),
  idleStopMs: z.optional(z.int()),
  /** When it will be stopped unless something changes, while it runs and has a time to live */
  expiresAt: z.optional(z.string()),
  /** What was changed while it ran and applies from its next start on; the fields themselves say what holds now */
  pending: z.optional(
    z.object({
      cpus: z.optional(z.int()),
      memoryMib: z.optional(z.int()),
      diskBytes: z.optional(z.number()),
      hostname: z.optional(z.string()),
    }),
  ),
  workspaces: z.array(z.object({ hostPath: z.string(), guestPath: z.string() })),
  /** What of the host it gets copies of at each start, and whether the configuration or it itself says so */
  fileSync: z.array(
    z.object({ hostPath: z.string(), guestPath: z.string(), source: z.enum(['config', 'vm']) }),
  ),
});
export type VmView = z.output<typeof vmView>;

/** Letters, digits and hyphens, as a host name: it is one. */
export const vmName = z
  .string()
  .check(
    z.regex(
      /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/,
      'must be 1 to 63 of a-z, 0-9 and -, and begin and end with a letter or digit',
    ),
  );

/** As a VM's name: it may become part of one. */
export const networkName = vmName;

export const reference = z.string().check(z.minLength(1));
const stageTimings = z.array(z.object({ stage: z.string(), seconds: z.number() }));

/** More would be a directory's. */
export const maxFileSyncs = 100;

const vmSpec = {
  name: z.optional(vmName),
  /** Absent: the default image of the configuration */
  image: z.optional(reference),
  /** Absent: the default kernel */
  kernel: z.optional(reference),
  cpus: z.optional(z.int().check(z.minimum(1))),
  memoryMib: z.optional(z.int().check(z.minimum(1))),
  diskBytes: z.optional(z.int().check(z.minimum(1))),
  labels: z._default(labels, {}),
  /** `user`, `none`, or the name of a network; absent: as the configuration says */
  network: z.optional(networkName),
  publish: z._default(z.array(portRequest), []),
  publishSockets: z._default(z.array(publishedSocket), []),
  /** Publish whatever listens in it, on the loopback, as long as it listens */
  publishAll: z._default(z.boolean(), false),
  /** What it may reach outside: `all`, `none`, or rules; absent: as the configuration says */
  egress: z.optional(z.array(z.string())),
  fileSync: z._default(z.array(fileSync).check(z.maxLength(maxFileSyncs)), []),
  /** Whether it gets what the configuration names, too */
  takesConfigFiles: z._default(z.boolean(), true),
  ttlMs: z.optional(stopAfterMs),
  /** Absent: as the configuration says; null: never */
  idleStopMs: z.optional(z.nullable(stopAfterMs)),
};

/** Creates a VM and, unless asked not to, boots it until its guest is ready. */
export const vmCreate = method(
  'vm.create',
  z.object({ ...vmSpec, start: z._default(z.boolean(), true) }),
  z.extend(vmView, {
    /** How long each stage took */
    stages: stageTimings,
  }),
);

export const vmList = question(
  'vm.list',
  z.object({ labels: z._default(z.array(labelSelector), []) }),
  z.array(vmView),
);

export const vmShow = question(
  'vm.show',
  z.object({ vm: reference }),
  z.extend(vmView, {
    imageId: z.string(),
    /** Its name, or the start of its id when it has none; `embedded` for the one inside banger */
    kernel: z.string(),
    hostPublicKey: z.string(),
    /** Seconds after the kernel's start at which each phase of the guest's boot ended */
    bootPhases: z.optional(z.record(z.string(), z.number())),
    /** Bytes its disk takes on the host */
    diskUsedBytes: z.number(),
    /** What its VMM is kept by, and what it is not, by what the kernel says of it, while it runs */
    confinement: z.optional(z.object({ has: z.array(z.string()), lacks: z.array(z.string()) })),
    /** How its root disk was made: `qcow2`, `reflink`, `dm-snapshot` or `copy` */
    diskMethod: z.string(),
    /** What a tree said about it when it was made */
    template: z.optional(
      z.object({
        hostPath: z.string(),
        file: z.string(),
        sha256: z.string(),
        env: z.record(z.string(), z.string()),
        setup: z.array(z.string()),
      }),
    ),
  }),
);

/** Boots a stopped VM. One that runs already is left alone. */
export const vmStart = method('vm.start', z.object({ vm: reference }), vmView);

const stopped = z.extend(vmView, {
  /** False when the guest had to be killed before it had flushed its disks */
  flushed: z.boolean(),
});

/** Flushes and powers off the guest, then ends the VMM after `timeoutMs` if it still lives. A stopped VM is left alone. */
export const vmStop = method(
  'vm.stop',
  z.object({ vm: reference, timeoutMs: z._default(z.int().check(z.minimum(0)), 10_000) }),
  stopped,
);

export const vmRestart = method(
  'vm.restart',
  z.object({ vm: reference, timeoutMs: z._default(z.int().check(z.minimum(0)), 10_000) }),
  stopped,
);

/** Stops a VM, if it runs, and removes it with its disk. */
export const vmDelete = method(
  'vm.delete',
  z.object({ vm: reference }),
  z.object({ id: z.string(), name: z.string() }),
);

const terminal = z.object({
  term: z.string().check(z.maxLength(100)),
  columns: z.int().check(z.minimum(1), z.maximum(10_000)),
  rows: z.int().check(z.minimum(1), z.maximum(10_000)),
});

const program = {
  /** Absent: the image's login shell */
  argv: z.optional(z.array(z.string()).check(z.minLength(1))),
  env: z._default(z.record(z.string().check(z.regex(/^[A-Za-z_][A-Za-z0-9_]*$/)), z.string()), {}),
  /** Values by name; never listed, logged or kept */
  secrets: z._default(
    z.record(z.string().check(z.regex(/^[A-Za-z_][A-Za-z0-9_]*$/)), z.string().check(z.maxLength(65_536))),
    {},
  ),
  /** Unix socket of the caller's SSH agent, when the program may use it */
  agentSocket: z.optional(z.string().check(z.regex(/^\//))),
  workingDirectory: z.optional(z.string()),
  user: z.optional(z.string()),
  /** Given when the program shall have a terminal */
  terminal: z.optional(terminal),
};

/** Runs a program in a running VM. Frames: stdin, stdin-end, resize, signal in; stdout, stderr, exit out. */
export const vmExec = streamMethod('vm.exec', z.object({ vm: reference, ...program }));

/** Makes a VM, sends a working tree, runs a program, and cleans up: the whole main job in one stream. */
export const vmRun = streamMethod(
  'vm.run',
  z.object({
    ...vmSpec,
    ...program,
    /** Working tree to send, absolute */
    path: z.optional(z.string().check(z.regex(/^\//))),
    /** Absent: the branch that is checked out */
    guestBranch: z.optional(guestBranch),
    includeUntracked: z._default(z.boolean(), false),
    /** Absolute paths of untracked or ignored files that are sent too */
    include: z._default(z.array(z.string().check(z.regex(/^\//))), []),
    /** Run the image's own entrypoint; `argv` are arguments for it then */
    entrypoint: z._default(z.boolean(), false),
    /** What the tree says about its VM */
    template: templateChoice,
    /** Install the tools that the tree names for mise */
    bootstrap: z._default(z.boolean(), true),
    trustTools,
    /** Keep the VM also when it cannot be set up */
    keepFailed: z._default(z.boolean(), false),
    /** Run nothing: the VM is ready, and stays */
    detach: z._default(z.boolean(), false),
    /** Delete the VM when the program has ended */
    remove: z.boolean(),
  }),
);

/** What `vm run` tells when it is over, in the exit frame beside code or signal. */
export const runSummary = z.object({
  vm: z.string(),
  removed: z.boolean(),
  stages: stageTimings,
  /** Where what changed in the working tree was saved, when the VM was removed */
  patch: z.optional(
    z.object({
      path: z.string(),
      files: z.int(),
      /** What is not in it, such as repositories inside the tree */
      warnings: z.array(z.string()),
    }),
  ),
});
export type RunSummary = z.output<typeof runSummary>;
