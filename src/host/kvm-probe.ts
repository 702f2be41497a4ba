import { closeSync, constants, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError, errnoOf, errorText } from '../errors.ts';
import { monotonicMs } from './clock.ts';
import type { VmmDriver, VmmNetwork } from './drivers/driver.ts';
import type { JailerWish } from './drivers/firecracker/jail.ts';
import { networkFailedWords } from './drivers/firecracker/namespace.ts';
import type { Exec } from './exec.ts';
import { writeFileAtomic } from './files.ts';
import { giveUpAfter } from './patience.ts';
import { hostBootId, isAlive, killProcess } from './process.ts';
import { makeTrialPlace, removeTrialPlace, type TrialPlace } from './trial-place.ts';

/** Whether KVM works here for one VMM, and how we know. */
export interface KvmVerdict {
  readonly works: boolean;
  /** One phrase, such as `opens, but a guest did not boot on it within 3 s` */
  readonly reason: string;
}

/** A VMM that is to boot a guest on KVM. */
export interface ProbedVmm {
  readonly title: 'QEMU' | 'Firecracker';
  /** Name or path, asked for its version */
  readonly program: string;
  /** How it is confined, when that makes another proof of it */
  readonly confinement?: string;
  /** What it is booted with, where it might fail with that; none unless given */
  readonly network?: VmmNetwork;
  /** Loaded only when a boot is tried */
  readonly driver: () => Promise<VmmDriver>;
}

export function probedQemu(program: string): ProbedVmm {
  const driver = async () => (await import('./drivers/qemu.ts')).qemuDriver(program);
  return { title: 'QEMU', program, driver };
}

export function probedFirecracker(program: string, jailer: JailerWish): ProbedVmm {
  const driver = async () =>
    (await import('./drivers/firecracker.ts')).firecrackerDriver(program, { jailer });
  // Bridges, rules and the filter of slirp4netns: with its network whole, any VM's can be made.
  return { title: 'Firecracker', program, driver, network: { user: { forwards: [], reach: 'none' } } };
}

export interface KvmProbeInput {
  readonly exec: Exec;
  readonly vmm: ProbedVmm;
  /** Says which kernel and initrd they are; a verdict holds for these */
  readonly guestId: string;
  /** Unpacked only when a boot is tried */
  readonly kernel: () => Promise<string>;
  readonly initrd: () => Promise<string>;
  /** For the probe's own files; emptied afterwards */
  readonly temporaryDirectory: string;
  /** For its socket, whose address may not be long; that of the other files unless given */
  readonly socketDirectory?: string;
  readonly device?: string;
  /** How long a guest may take to boot; 3 s unless given */
  readonly timeoutMs?: number;
}

export const kvmWorks: KvmVerdict = { works: true, reason: 'a guest booted on it' };

const kvmDevice = '/dev/kvm';
const probeTimeoutMs = 3_000;
const pollMs = 20;

/**
 * Finds out whether KVM works by booting a guest on it. A device that opens proves nothing: on paravirtual
 * hosts it opens, makes VMs, and no stock kernel ever boots.
 */
export async function probeKvm(input: KvmProbeInput): Promise<KvmVerdict> {
  const refusal = deviceRefusal(input.device);
  if (refusal) return refusal;
  const { works, reason } = await bootOnKvm(input);
  return { works, reason };
}

/** What is wrong with the device before anything boots on it; undefined when it can be opened. */
export function deviceRefusal(device = kvmDevice, open?: OpenDevice): KvmVerdict | undefined {
  const errno = deviceErrno(device, open);
  return errno === undefined ? undefined : { works: false, reason: `${device} ${openWords(errno)}` };
}

function openWords(errno: string): string {
  switch (errno) {
    case 'ENOENT':
      return 'does not exist';
    case 'EACCES':
      return 'may not be opened by you';
    case 'EPERM':
      return 'may not be opened here, as the rules of a container have it (EPERM)';
    case 'ENODEV':
    case 'ENXIO':
      return `is there, but has no driver (${errno})`;
    default:
      return `cannot be opened (${errno})`;
  }
}

type OpenDevice = (path: string, flags: number) => number;

/** Opened, and not asked about: a container may forbid what permissions do not, and a name alone has no driver. */
export function deviceErrno(device: string, open: OpenDevice = openSync): string | undefined {
  try {
    closeSync(open(device, constants.O_RDWR));
    return undefined;
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    return errno;
  }
}

/**
 * The verdict of an earlier probe of this host boot, VMM and guest, else a fresh one, which is remembered, unless
 * nothing was tried, as on a full disk.
 *
 * A device that is missing or closed to us is looked at each time: loading a module or joining a group must
 * help at once.
 */
export async function cachedKvmProbe(input: KvmProbeInput, cacheFile: string): Promise<KvmVerdict> {
  const refusal = deviceRefusal(input.device);
  if (refusal) return refusal;
  const remembered = await rememberedVerdict(input, cacheFile);
  if (remembered) return remembered;
  const { isTold, ...verdict } = await bootOnKvm(input);
  if (!isTold) return verdict;
  const key = await cacheKey(input);
  await writeFileAtomic(cacheFile, JSON.stringify({ key, verdict, monotonicMs: monotonicMs() }), 0o600);
  return verdict;
}

/** What `cachedKvmProbe` remembers of an earlier boot on KVM; undefined when it would probe. */
export async function rememberedVerdict(
  input: Pick<KvmProbeInput, 'exec' | 'vmm' | 'guestId'>,
  cacheFile: string,
): Promise<KvmVerdict | undefined> {
  const cached = await readCache(cacheFile);
  if (!cached || cached.key !== (await cacheKey(input))) return undefined;
  const isStale = !cached.verdict.works && monotonicMs() - cached.monotonicMs > refusalHoldsMs;
  return isStale ? undefined : cached.verdict;
}

/** A host that was too busy for the probe, or lent its processor to somebody else, gets another chance. */
const refusalHoldsMs = 60 * 60 * 1000;

/** Told by the VMM, or its guest: `isTold`. */
async function bootOnKvm(input: KvmProbeInput): Promise<KvmVerdict & { readonly isTold: boolean }> {
  const places: TrialPlace[] = [];
  const place = (parent: string, kind: 'probe' | 'sockets'): TrialPlace => {
    places.push(makeTrialPlace(parent, kind));
    return places.at(-1)!;
  };
  try {
    const { directory, id } = place(input.temporaryDirectory, 'probe');
    const { directory: sockets } = place(input.socketDirectory ?? input.temporaryDirectory, 'sockets');
    const driver = await input.vmm.driver();
    // Unpacking takes its time, which is no guest's.
    const guest = { kernel: await input.kernel(), initrd: await input.initrd() };
    return { ...(await bootGuest(input, driver, { id, directory, sockets, ...guest })), isTold: true };
  } catch (error) {
    if (error instanceof BangerError) return { works: false, reason: errorText(error), isTold: false };
    throw error;
  } finally {
    for (const { directory } of places) await removeTrialPlace(input.exec, directory);
  }
}

/** To the first words of our init: as VMs are started, confined as they are. */
async function bootGuest(
  { vmm: { title, network = {} }, timeoutMs = probeTimeoutMs }: KvmProbeInput,
  driver: VmmDriver,
  {
    id,
    directory,
    sockets,
    ...guest
  }: {
    readonly id: string;
    readonly directory: string;
    readonly sockets: string;
    readonly kernel: string;
    readonly initrd: string;
  },
): Promise<KvmVerdict> {
  const consoleLog = join(directory, 'console');
  const timeout = new AbortController();
  const takeBack = giveUpAfter(timeoutMs, () => timeout.abort());
  const hangs: KvmVerdict = {
    works: false,
    reason: `opens, but a guest did not boot on it within ${timeoutMs / 1000} s`,
  };
  try {
    const vmm = await driver.start(
      {
        ...guest,
        id,
        cpus: 1,
        memoryMib: 256,
        consoleLog,
        vmmLog: join(directory, 'vmm'),
        controlSocket: join(sockets, 'c'),
        network,
        acceleration: 'kvm',
        kernelWords: ['banger.probe=1'],
      },
      timeout.signal,
    );
    try {
      for (;;) {
        const wasAlive = isAlive(vmm);
        const console = await readFile(consoleLog, 'latin1').catch(() => '');
        if (console.includes('banger-probe-ok')) return kvmWorks;
        if (!wasAlive)
          return { works: false, reason: `opens, but ${title} ended before its guest had booted` };
        if (timeout.signal.aborted) return hangs;
        await sleep(pollMs);
      }
    } finally {
      await killProcess(vmm);
    }
  } catch (error) {
    if (timeout.signal.aborted && error instanceof BangerError && error.code === 'cancelled') return hangs;
    if (!(error instanceof BangerError) || error.code !== 'command_failed') throw error;
    if (error.message.startsWith(networkFailedWords))
      return { works: false, reason: error.message.replace(`${title}'s`, 'its') };
    const words = errorText(error).replace(`${title} ended at once: `, '');
    return { works: false, reason: `opens, but ${title} cannot use it: ${words}` };
  } finally {
    takeBack();
  }
}

async function cacheKey({
  exec,
  vmm,
  guestId,
}: Pick<KvmProbeInput, 'exec' | 'vmm' | 'guestId'>): Promise<string> {
  const { stdout } = await exec([vmm.program, '--version']);
  const confinement = vmm.confinement === undefined ? '' : ` ${vmm.confinement}`;
  const network = vmm.network === undefined ? '' : ' with its network';
  return `${hostBootId()} ${stdout.toString('utf8').split('\n')[0]} ${guestId}${confinement}${network}`;
}

interface CachedVerdict {
  /** Host boot, VMM and guest that it holds for */
  readonly key: string;
  readonly verdict: KvmVerdict;
  /** When, by the monotonic clock of that boot: setting the time does not prolong it */
  readonly monotonicMs: number;
}

/** A cache that cannot be read or makes no sense is no cache. */
async function readCache(path: string): Promise<CachedVerdict | undefined> {
  try {
    const cached = JSON.parse(await readFile(path, 'utf8')) as CachedVerdict;
    return typeof cached.verdict?.works === 'boolean' && typeof cached.monotonicMs === 'number'
      ? cached
      : undefined;
  } catch {
    return undefined;
  }
}
