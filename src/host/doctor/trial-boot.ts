import { mkdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError } from '../../errors.ts';
import { waitForReady, type GuestReady } from '../console.ts';
import type { DiskMethodName } from '../disks/disk-method.ts';
import { diskMethod } from '../disks/methods.ts';
import {
  loopbackForward,
  type Acceleration,
  type UserNetwork,
  type VmmDriver,
  type VmmSpec,
} from '../drivers/driver.ts';
import { removeControlGroups } from '../drivers/firecracker/control-groups.ts';
import { qemuDriver } from '../drivers/qemu.ts';
import { exec as realExec, type Exec } from '../exec.ts';
import { ensureClientKey, generateHostKey } from '../keys.ts';
import { findFreePort } from '../ports.ts';
import { isAlive, killProcess, waitForExit, type ProcessIdentity } from '../process.ts';
import { SshConnection, type SshTarget } from '../ssh.ts';
import { runTrue } from './trial-command.ts';
import { writeTrialInitrd } from './trial-initrd.ts';

export interface TrialBootInput {
  readonly qemuProgram: string;
  readonly acceleration: Acceleration;
  readonly kernel: () => Promise<string>;
  readonly toolbox: () => Promise<string>;
  readonly modules: () => Promise<string>;
  /** Returns an ext4 filesystem that is only read; absent: the guest stops before it would mount one */
  readonly rootfs?: (directory: string) => Promise<string>;
  /** QEMU unless given */
  readonly vmm?: { readonly title: string; readonly driver: VmmDriver };
  /** How the root disk is made; `qcow2` unless given */
  readonly diskMethod?: DiskMethodName;
  /** What the guest reaches; all unless given */
  readonly reach?: UserNetwork['reach'];
  /** Private; everything that is made goes there, and whoever made it removes it */
  readonly directory: string;
  /** What is made is named after it */
  readonly id: string;
  /** For its socket, whose address may not be long; that of the other files unless given */
  readonly socketDirectory?: string;
  readonly onStage: (stage: string) => void;
  readonly exec?: Exec;
}

export interface BootPhase {
  readonly id: string;
  readonly title: string;
  readonly seconds: number;
}

export interface TrialBoot {
  /** `full`: to a command run over SSH; `kernel`: to the first words of our init */
  readonly kind: 'full' | 'kernel';
  readonly acceleration: Acceleration;
  readonly phases: readonly BootPhase[];
  readonly totalSeconds: number;
}

const memoryMib = 256;
/** Generous: an emulated guest on a busy host takes many times what it needs alone. */
const bootTimeoutMs = 120_000;
const powerOffTimeoutMs = 30_000;
const pollMs = 10;
/** A free port can be taken by somebody else before QEMU has it. */
const portAttempts = 3;
/** Port of the guest's SSH service, see guest/init. */
const guestSshPort = 1022;

/** Boots a VM that nobody will use, times each phase, and ends it. Throws what a user's VM would meet here. */
export async function bootTrialVm(input: TrialBootInput): Promise<TrialBoot> {
  const phases: BootPhase[] = [];
  const started = performance.now();
  const measure: Measure = async (id, title, work) => {
    input.onStage(title);
    const before = performance.now();
    const result = await work();
    phases.push({ id, title, seconds: secondsSince(before) });
    return result;
  };
  await (input.rootfs ? bootFully(input, input.rootfs, { measure, phases }) : bootKernel(input, measure));
  return {
    kind: input.rootfs ? 'full' : 'kernel',
    acceleration: input.acceleration,
    phases: phases.map((phase) => ({ ...phase, seconds: Math.round(phase.seconds * 1000) / 1000 })),
    totalSeconds: Math.round(secondsSince(started) * 1000) / 1000,
  };
}

type Measure = <T>(id: string, title: string, work: () => Promise<T>) => Promise<T>;

/** To the first thing our init does, without a disk. */
async function bootKernel(input: TrialBootInput, measure: Measure): Promise<void> {
  const spec = await measure('prepare', 'Unpacking the kernel', async () => ({
    ...(await machine(input, await input.toolbox())),
    kernelWords: ['banger.probe=1'],
  }));
  const { title, driver } = vmmOf(input);
  const vmm = await measure('vmm', `Starting ${title}`, () => startVmm(input, spec));
  // QEMU ends with its guest; elsewhere one that has halted is noticed by whoever listens.
  const control = input.vmm && (await driver.control({ ...spec, process: vmm, disk: '' }));
  try {
    await measure('kernel', 'Booting the kernel', () => waitForProbeLine(spec.consoleLog, vmm));
    await measure('power-off', 'Powering off', () => waitForEnd(vmm));
  } finally {
    control?.close();
    await killProcess(vmm);
    await removeControlGroups(spec.id).catch(() => undefined);
  }
}

async function bootFully(
  input: TrialBootInput,
  rootfs: NonNullable<TrialBootInput['rootfs']>,
  { measure, phases }: { readonly measure: Measure; readonly phases: BootPhase[] },
): Promise<void> {
  const hostKey = generateHostKey();
  const key = await ensureClientKey(join(input.directory, 'client_key'));
  const method = diskMethod(input.exec ?? realExec, input.diskMethod ?? 'qcow2');
  const { backing, initrd } = await measure('prepare', 'Unpacking kernel and image', async () => ({
    backing: await unpack(input, rootfs),
    initrd: await writeTrialInitrd(input, hostKey, key.publicLine),
  }));
  const { size: sizeBytes } = await stat(backing);
  const path = join(input.directory, 'disk');
  const disk = { id: input.id, path, backing, imageBytes: sizeBytes, sizeBytes };
  try {
    const opened = await measure('disk', 'Making the disk', async () => {
      await method.create(disk, { signal: unaborted() });
      return method.attach(disk);
    });
    const spec = { ...(await machine(input, initrd)), disk: { path: opened, format: method.format } };
    await bootToPowerOff(input, spec, { measure, phases, target: { key, hostKey: hostKey.publicLine } });
    await measure('take-down', 'Taking down the disk', () => method.detach(disk));
  } finally {
    // Once more does no harm.
    await method.detach(disk);
  }
}

async function bootToPowerOff(
  input: TrialBootInput,
  spec: VmmSpec,
  {
    measure,
    phases,
    target: keys,
  }: {
    readonly measure: Measure;
    readonly phases: BootPhase[];
    readonly target: Pick<SshTarget, 'key' | 'hostKey'>;
  },
): Promise<void> {
  const { title, driver } = vmmOf(input);
  const { vmm, port } = await measure('vmm', `Starting ${title}`, () => startReachable(input, spec));
  // A guest that has halted is noticed by whoever listens, where the VMM itself does not end.
  const control = await driver.control({ ...spec, process: vmm, disk: spec.disk?.path ?? '' });
  try {
    input.onStage('Booting the guest');
    const before = performance.now();
    const ready = await waitForReady(spec.consoleLog, {
      timeoutMs: bootTimeoutMs,
      signal: unaborted(),
      hasExited: () => !isAlive(vmm),
    });
    phases.push(...guestPhases(ready, secondsSince(before)));
    const target = { host: '127.0.0.1', port, user: 'root', ...keys };
    const ssh = await measure('handshake', 'SSH handshake', () => SshConnection.connect(target, unaborted()));
    await measure('exec', 'First command', () => runTrue(ssh, ready.protocol));
    await measure('power-off', 'Powering off', async () => {
      await ssh.exec('banger-poweroff', undefined, (channel) => channel.resume());
      await waitForEnd(vmm);
    });
  } finally {
    control.close();
    await killProcess(vmm);
    await removeControlGroups(spec.id).catch(() => undefined);
  }
}

/**
 * The guest's clock readings as durations. The network is set up beside the root disk, so that only what it took
 * longer counts; what the guest's clock does not see is the firmware before the kernel, and the image's start.
 */
export function guestPhases(ready: GuestReady, bootSeconds: number): BootPhase[] {
  const { kernel, modules, root, network, ssh } = ready.phases;
  const after = (later: number, earlier: number): number => Math.max(0, later - earlier);
  return [
    { id: 'kernel', title: 'Kernel', seconds: kernel },
    { id: 'modules', title: 'Modules', seconds: after(modules, kernel) },
    { id: 'root', title: 'Root disk', seconds: after(root, modules) },
    { id: 'network', title: 'Network', seconds: after(network, root) },
    { id: 'ssh', title: 'SSH service', seconds: after(ssh, Math.max(root, network)) },
    { id: 'other', title: 'Firmware, image start', seconds: after(bootSeconds, ssh) },
  ];
}

/** All of it, to be counted once: later calls find it done. Returns the image's filesystem. */
async function unpack(input: TrialBootInput, rootfs: NonNullable<TrialBootInput['rootfs']>): Promise<string> {
  const work = join(input.directory, 'rootfs');
  await mkdir(work, { mode: 0o700 });
  // One by one, so that a failure leaves nobody writing to what is removed then.
  await input.kernel();
  await input.toolbox();
  await input.modules();
  return rootfs(work);
}

async function machine(input: TrialBootInput, initrd: string): Promise<VmmSpec> {
  return {
    id: input.id,
    cpus: 1,
    memoryMib,
    kernel: await input.kernel(),
    initrd,
    consoleLog: join(input.directory, 'console.log'),
    vmmLog: join(input.directory, 'vmm.log'),
    controlSocket: join(input.socketDirectory ?? input.directory, 'control'),
    network: {},
    acceleration: input.acceleration,
  };
}

async function startReachable(
  input: TrialBootInput,
  spec: VmmSpec,
): Promise<{ vmm: ProcessIdentity; port: number }> {
  for (let attempt = 1; ; attempt++) {
    const port = await findFreePort();
    try {
      const forwards = [loopbackForward(port, guestSshPort)];
      return {
        vmm: await startVmm(input, { ...spec, network: { user: { forwards, reach: input.reach ?? 'all' } } }),
        port,
      };
    } catch (error) {
      const mayTryAgain = error instanceof BangerError && error.code === 'busy' && attempt < portAttempts;
      if (!mayTryAgain) throw error;
    }
  }
}

async function startVmm(input: TrialBootInput, spec: VmmSpec): Promise<ProcessIdentity> {
  await rm(spec.consoleLog, { force: true });
  return vmmOf(input).driver.start(spec, unaborted());
}

function vmmOf({ vmm, qemuProgram }: TrialBootInput): NonNullable<TrialBootInput['vmm']> {
  return vmm ?? { title: 'QEMU', driver: qemuDriver(qemuProgram) };
}

async function waitForProbeLine(consoleLog: string, vmm: ProcessIdentity): Promise<void> {
  const deadline = performance.now() + bootTimeoutMs;
  for (;;) {
    const wasAlive = isAlive(vmm);
    const text = await readFile(consoleLog, 'latin1').catch(() => '');
    if (text.includes('banger-probe-ok')) return;
    if (!wasAlive) throw new BangerError('guest_unreachable', 'The guest ended before its init ran');
    if (performance.now() > deadline) {
      throw new BangerError('timeout', `The kernel did not boot within ${bootTimeoutMs / 1000} s`);
    }
    await sleep(pollMs);
  }
}

async function waitForEnd(vmm: ProcessIdentity): Promise<void> {
  if (await waitForExit(vmm, powerOffTimeoutMs)) return;
  throw new BangerError('timeout', `The guest did not power off within ${powerOffTimeoutMs / 1000} s`);
}

function secondsSince(before: number): number {
  return (performance.now() - before) / 1000;
}

/** Every wait here has a limit of its own, and whoever gives up ends this process: see scratch.ts. */
function unaborted(): AbortSignal {
  return new AbortController().signal;
}
