import { existsSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Acceleration, VmmDriver } from '../../../src/host/drivers/driver.ts';
import { firecrackerDriver } from '../../../src/host/drivers/firecracker.ts';
import { rootlessRefusal } from '../../../src/host/drivers/firecracker/namespace.ts';
import { qemuDriver } from '../../../src/host/drivers/qemu.ts';
import { exec } from '../../../src/host/exec.ts';
import { probedFirecracker, probedQemu, probeKvm } from '../../../src/host/kvm-probe.ts';
import { makeFakeFirecracker, requestsIn, type RecordedRequest } from '../firecracker-program.ts';
import { qemuDevices } from './devices.ts';
import { makeGuest } from './guest.ts';

/** A driver with a VMM, which is held to the list (list.ts); what it has of what not all have. */
export interface Column {
  readonly title: string;
  /** Why it cannot be tried here */
  readonly missing?: string;
  readonly acceleration: Acceleration;
  /** Makes what it takes in a directory */
  prepare(directory: string): Promise<{ program: string; kernel: string; initrd: string }>;
  /** A driver that knows nothing yet, as another engine has it */
  driver(program: string): VmmDriver;
  /** The words of its command line by which a VM is found */
  wordsOf(id: string): readonly string[];
  /** Why there is no user network here */
  readonly noUserNetwork?: string;
  /** Its command line tells how large the machine is, and its forwards */
  readonly tellsMachine: boolean;
  readonly discards: boolean;
  readonly readsQcow2: boolean;
  /** Where a stand-in plays the VMM, with no guest: what it was asked for so far, other than about itself */
  asked?(program: string): readonly RecordedRequest[];
  /** `left to the guest`: ours has no driver for it; `may reset`: where the kernel has one for the keyboard */
  readonly powerButton: 'left to the guest' | 'resets' | 'may reset';
  /** Kinds of devices that its machine may have; absent where the VMM does not tell */
  readonly devices?: readonly string[];
  readonly tooManyCpus: { readonly cpus: number; readonly code: string; readonly words: RegExp };
}

export function qemuColumn(acceleration: Acceleration, missing?: string): Column {
  return {
    title: acceleration === 'tcg' ? 'QEMU by emulation' : 'QEMU on KVM',
    ...(missing !== undefined && { missing }),
    acceleration,
    prepare: async (directory) => ({ program: qemu, ...(await makeGuest(directory)) }),
    driver: qemuDriver,
    wordsOf: (id) => ['-name', `banger-${id}`, '-nodefaults'],
    tellsMachine: true,
    discards: true,
    readsQcow2: true,
    powerButton: 'left to the guest',
    devices: qemuDevices(acceleration),
    tooManyCpus: { cpus: 4096, code: 'command_failed', words: /^QEMU ended at once: .*\bCPUs?\b.*4096/i },
  };
}

const firecracker = {
  acceleration: 'kvm',
  // The stand-in is a program for Node, whose start takes its time on a host that is busy, or emulated.
  driver: (program: string) => firecrackerDriver(program, { jailer: 'never', startTimeoutMs: 120_000 }),
  wordsOf: (id: string) => ['--id', `banger-${id}`, '--api-sock', '/x'],
  tellsMachine: false,
  discards: false,
  readsQcow2: false,
  tooManyCpus: {
    cpus: 33,
    code: 'host_unsupported',
    words: /^Firecracker gives a VM 32 CPUs at most, not 33$/,
  },
} as const;

/** Firecracker's part is played by the fake, and the guest's by a stand-in within it. */
export async function standInColumn(): Promise<Column> {
  return {
    ...firecracker,
    ...(await userNetworkHere()),
    title: 'Firecracker (stand-in)',
    powerButton: 'resets',
    asked: (program) => requestsIn(dirname(program)),
    prepare: async (directory) => {
      const { program } = await makeFakeFirecracker(directory);
      const [kernel, initrd] = [join(directory, 'kernel'), join(directory, 'initrd')];
      for (const path of [kernel, initrd]) writeFileSync(path, 'x');
      return { program, kernel, initrd };
    },
  };
}

/** The Firecracker that BANGER_TEST_FIRECRACKER names. */
export async function firecrackerColumn(program: string | undefined, missing?: string): Promise<Column> {
  return {
    ...firecracker,
    ...(await userNetworkHere()),
    title: 'Firecracker',
    ...(missing !== undefined && { missing }),
    powerButton: 'may reset',
    prepare: async (directory) => ({ program: program!, ...(await makeGuest(directory)) }),
  };
}

async function userNetworkHere(): Promise<{ readonly noUserNetwork?: string }> {
  const refusal = await rootlessRefusal(exec);
  return refusal === undefined ? {} : { noUserNetwork: refusal };
}

const qemu = 'qemu-system-x86_64';

/**
 * Why no guest boots on KVM here, as the engine itself finds out; undefined when one did. `BANGER_TEST_KVM=works` spares
 * that where nothing boots in a probe's time (`../kvm-lab.ts`).
 */
export async function kvmRefusal(
  directory: string,
  firecrackerProgram?: string,
): Promise<string | undefined> {
  if (process.env['BANGER_TEST_KVM'] === 'works') return undefined;
  if (!existsSync('/dev/kvm')) return '/dev/kvm does not exist';
  const { kernel, initrd } = await makeGuest(directory);
  const verdict = await probeKvm({
    exec,
    vmm: firecrackerProgram === undefined ? probedQemu(qemu) : probedFirecracker(firecrackerProgram, 'never'),
    guestId: 'parity',
    kernel: () => Promise.resolve(kernel),
    initrd: () => Promise.resolve(initrd),
    temporaryDirectory: directory,
  });
  if (verdict.works) return undefined;
  return verdict.reason.startsWith('/dev/kvm') ? verdict.reason : `/dev/kvm ${verdict.reason}`;
}
