import { accessSync, constants, existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError, errorText } from '../errors.ts';
import { monotonicMs } from './clock.ts';
import { vmmEnvironment } from './drivers/vmm-environment.ts';
import { readQemuBuild } from './drivers/qemu-confinement.ts';
import { qemuArguments } from './drivers/qemu.ts';
import type { Exec } from './exec.ts';
import { writeFileAtomic } from './files.ts';
import { Deadline } from './patience.ts';
import { hostBootId, identifyProcess, killProcess, spawnDetached } from './process.ts';

/** Whether KVM works here, and how we know. */
export interface KvmVerdict {
  readonly works: boolean;
  /** One phrase, such as `opens, but a guest did not boot on it within 3 s` */
  readonly reason: string;
}

export interface KvmProbeInput {
  readonly exec: Exec;
  readonly qemuProgram: string;
  /** Unpacked only when a boot is tried */
  readonly kernel: () => Promise<string>;
  readonly initrd: () => Promise<string>;
  /** For the probe's own files; emptied afterwards */
  readonly temporaryDirectory: string;
  readonly device?: string;
}

const kvmDevice = '/dev/kvm';
const probeTimeoutMs = 3_000;
const pollMs = 20;

/**
 * Finds out whether KVM works by booting a guest on it. A device that opens proves nothing: on paravirtual
 * hosts it opens, makes VMs, and no stock kernel ever boots.
 */
export async function probeKvm(input: KvmProbeInput): Promise<KvmVerdict> {
  return deviceRefusal(input.device) ?? bootOnKvm(input);
}

/** What is wrong with the device before anything boots on it; undefined when it may be opened. */
export function deviceRefusal(device = kvmDevice): KvmVerdict | undefined {
  if (!existsSync(device)) return { works: false, reason: `${device} does not exist` };
  try {
    accessSync(device, constants.R_OK | constants.W_OK);
    return undefined;
  } catch {
    return { works: false, reason: `${device} may not be opened by you` };
  }
}

/**
 * The verdict of an earlier probe of this host boot and QEMU, else a fresh one, which is remembered.
 *
 * A device that is missing or closed to us is looked at each time: loading a module or joining a group must
 * help at once.
 */
export async function cachedKvmProbe(input: KvmProbeInput, cacheFile: string): Promise<KvmVerdict> {
  const refusal = deviceRefusal(input.device);
  if (refusal) return refusal;
  const remembered = await rememberedVerdict(input, cacheFile);
  if (remembered) return remembered;
  const verdict = await bootOnKvm(input);
  const key = await cacheKey(input);
  await writeFileAtomic(cacheFile, JSON.stringify({ key, verdict, monotonicMs: monotonicMs() }), 0o600);
  return verdict;
}

/** What `cachedKvmProbe` remembers of an earlier boot on KVM; undefined when it would probe. */
export async function rememberedVerdict(
  input: Pick<KvmProbeInput, 'exec' | 'qemuProgram'>,
  cacheFile: string,
): Promise<KvmVerdict | undefined> {
  const cached = await readCache(cacheFile);
  if (!cached || cached.key !== (await cacheKey(input))) return undefined;
  const isStale = !cached.verdict.works && monotonicMs() - cached.monotonicMs > refusalHoldsMs;
  return isStale ? undefined : cached.verdict;
}

/** A host that was too busy for the probe, or lent its processor to somebody else, gets another chance. */
const refusalHoldsMs = 60 * 60 * 1000;

async function bootOnKvm(input: KvmProbeInput): Promise<KvmVerdict> {
  const directory = await mkdtemp(join(input.temporaryDirectory, 'banger-probe-'));
  const consoleLog = join(directory, 'console');
  try {
    const build = await readQemuBuild(input.exec, input.qemuProgram);
    const machine = {
      id: 'probe',
      cpus: 1,
      memoryMib: 256,
      kernel: await input.kernel(),
      initrd: await input.initrd(),
      consoleLog,
      vmmLog: join(directory, 'vmm'),
      controlSocket: join(directory, 'control'),
      forwards: [],
      acceleration: 'kvm',
      kernelWords: ['banger.probe=1'],
    } as const;
    const argv = qemuArguments(machine, { ...build, hasSandbox: false });
    const child = await spawnDetached([input.qemuProgram, ...argv], {
      logFile: join(directory, 'vmm'),
      env: vmmEnvironment(),
    });
    let isRunning = true;
    child.once('exit', () => {
      isRunning = false;
    });
    const identity = identifyProcess(child.pid!);
    const deadline = new Deadline(probeTimeoutMs);
    try {
      for (;;) {
        const wasRunning = isRunning;
        const console = await readFile(consoleLog, 'latin1').catch(() => '');
        if (console.includes('banger-probe-ok')) return { works: true, reason: 'a guest booted on it' };
        if (!wasRunning) {
          const words = (await readFile(join(directory, 'vmm'), 'utf8')).trim().split('\n').at(-1);
          return { works: false, reason: `opens, but QEMU cannot use it: ${words || 'it ended at once'}` };
        }
        if (deadline.isOver()) {
          return {
            works: false,
            reason: `opens, but a guest did not boot on it within ${probeTimeoutMs / 1000} s`,
          };
        }
        await sleep(pollMs);
      }
    } finally {
      if (identity) await killProcess(identity);
    }
  } catch (error) {
    if (error instanceof BangerError) return { works: false, reason: errorText(error) };
    throw error;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function cacheKey({ exec, qemuProgram }: Pick<KvmProbeInput, 'exec' | 'qemuProgram'>): Promise<string> {
  const { stdout } = await exec([qemuProgram, '--version']);
  return `${hostBootId()} ${stdout.toString('utf8').split('\n')[0]}`;
}

interface CachedVerdict {
  /** Host boot and QEMU that it holds for */
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
