import { BangerError, errorText } from '../errors.ts';
import type { DiskFormat } from './disks/disk-method.ts';
import type { Acceleration, DriverName } from './drivers/driver.ts';
import { decideJail, type JailerWish } from './drivers/firecracker/jail.ts';
import { maxFirecrackerCpus } from './drivers/firecracker/machine.ts';
import { rootlessRefusal } from './drivers/firecracker/namespace.ts';
import {
  embeddedKernel,
  kernelRefusal,
  parseFirecrackerVersion,
  versionRefusal,
  type GuestKernel,
} from './drivers/firecracker/version.ts';
import { readOwnRights, type OwnRights } from './drivers/qemu-confinement.ts';
import type { Exec } from './exec.ts';
import type { KvmVerdict, ProbedVmm } from './kvm-probe.ts';

/** What the configuration asks for. */
export interface VmmWish {
  readonly driver: 'auto' | DriverName;
  readonly accel: 'auto' | Acceleration;
}

/** By what a VM is run, and why. */
export interface VmmChoice {
  readonly driver: DriverName;
  readonly acceleration: Acceleration;
  /** One phrase, such as `KVM opens, but a guest did not boot on it within 3 s` */
  readonly reason: string;
}

/** What a VM needs of whoever runs it. */
export interface VmmNeeds {
  /** Name of its network */
  readonly network: string;
  readonly disk: DiskFormat;
  readonly cpus: number;
  /** Absent: the one inside banger */
  readonly kernel?: GuestKernel;
}

export interface FirecrackerVerdict extends KvmVerdict {
  /** False when there is no such program: nothing that needs to be told of a VM that QEMU runs */
  readonly isInstalled: boolean;
  /** What it is kept from, in one phrase; absent where that is as the engine's user is */
  readonly confinement?: string;
}

/** Each is asked for only when the choice depends on it: finding out takes a boot. */
export interface VmmVerdicts {
  readonly firecracker: () => Promise<FirecrackerVerdict>;
  readonly qemu: () => Promise<KvmVerdict>;
}

const asConfigured = 'as the configuration says';

/**
 * Chooses a VMM: Firecracker where it is proven and can do what VMs need, else QEMU, with KVM where that is proven.
 * Throws `host_unsupported` when the configuration insists on what does not work.
 */
export async function chooseVmm(wish: VmmWish, verdicts: VmmVerdicts): Promise<VmmChoice> {
  if (wish.driver === 'firecracker') return insistOnFirecracker(wish, verdicts);
  if (wish.accel === 'tcg') return { driver: 'qemu', acceleration: 'tcg', reason: asConfigured };
  const firecracker = wish.driver === 'auto' ? await verdicts.firecracker() : undefined;
  if (firecracker?.works)
    return {
      driver: 'firecracker',
      acceleration: 'kvm',
      reason: `KVM: ${firecracker.reason}${confinementText(firecracker)}`,
    };
  const remark = firecracker?.isInstalled ? `; not Firecracker: ${firecracker.reason}` : '';
  if (wish.accel === 'kvm')
    return { driver: 'qemu', acceleration: 'kvm', reason: `${asConfigured}${remark}` };
  const kvm = await verdicts.qemu();
  if (kvm.works) return { driver: 'qemu', acceleration: 'kvm', reason: `KVM: ${kvm.reason}${remark}` };
  return { driver: 'qemu', acceleration: 'tcg', reason: `KVM: ${kvm.reason}` };
}

async function insistOnFirecracker(wish: VmmWish, verdicts: VmmVerdicts): Promise<VmmChoice> {
  const refusal: FirecrackerVerdict =
    wish.accel === 'tcg'
      ? {
          works: false,
          reason: 'it runs guests by KVM only, and accel = "tcg" forbids that',
          isInstalled: true,
        }
      : await verdicts.firecracker();
  if (refusal.works)
    return {
      driver: 'firecracker',
      acceleration: 'kvm',
      reason: `${asConfigured}${confinementText(refusal)}`,
    };
  throw new BangerError(
    'host_unsupported',
    `Firecracker, on which the configuration insists, cannot be used: ${refusal.reason}`,
    { hint: 'Let QEMU run VMs where it cannot: set driver = "auto" under [vmm] in the configuration' },
  );
}

function confinementText({ confinement }: FirecrackerVerdict): string {
  return confinement === undefined ? '' : `; ${confinement}`;
}

export interface FirecrackerInput {
  readonly exec: Exec;
  readonly vmm: ProbedVmm;
  /** What comes of booting a guest on it, confined as it says; asked last */
  readonly probe: (vmm: ProbedVmm) => Promise<KvmVerdict>;
  /** What a VM needs that not every VMM has */
  readonly needs: VmmNeeds;
  /** Whether it was asked for although it would be run by root */
  readonly isInsistedOn: boolean;
  readonly jailer: JailerWish;
  /** What taps are made by; the host's unless given */
  readonly tunDevice?: string;
  /** Our own unless given */
  readonly rights?: OwnRights;
}

/** Whether Firecracker can run VMs here. What costs nothing to find out comes first. */
export async function firecrackerVerdict(input: FirecrackerInput): Promise<FirecrackerVerdict> {
  const release = await readRelease(input);
  const { refusal: jailRefusal, isJailed = false, confinement } = judgeJail(input);
  const refusal = release.refusal ?? jailRefusal ?? (await needsRefusal(input, isJailed));
  if (refusal !== undefined) return { works: false, reason: refusal, isInstalled: release.isInstalled };
  const vmm = { ...input.vmm, confinement };
  return { ...(await input.probe(vmm)), isInstalled: true, confinement };
}

/** Why a program cannot be used for a guest with a kernel, whatever the host. */
async function readRelease({
  exec,
  vmm: { program },
  needs: { kernel = embeddedKernel },
}: FirecrackerInput): Promise<{ readonly isInstalled: boolean; readonly refusal?: string }> {
  try {
    const { stdout } = await exec([program, '--version']);
    const version = parseFirecrackerVersion(stdout.toString('utf8'));
    const refusal = version
      ? (versionRefusal(version) ?? kernelRefusal(version, kernel))
      : `"${program}" is not Firecracker`;
    return { isInstalled: true, refusal };
  } catch (error) {
    if (error instanceof BangerError) return { isInstalled: false, refusal: errorText(error) };
    throw error;
  }
}

/** Whether it may run with the confinement that it would have, and which that is. */
function judgeJail({ vmm, jailer, isInsistedOn, rights = readOwnRights() }: FirecrackerInput): {
  readonly refusal?: string;
  readonly isJailed?: boolean;
  readonly confinement?: string;
} {
  const { program } = vmm;
  const question = { wish: jailer, program, id: '', rights };
  const { jailing, reason } = decideJail(question);
  if (jailing) return { isJailed: true, confinement: 'jailed, each as a user of its own' };
  if (jailer === 'always')
    return { refusal: `it has to be jailed, as the configuration says, and cannot be: ${reason}` };
  if (rights.uid !== 0) return {};
  // QEMU of root's has a user of its own for each VM.
  if (isInsistedOn) return { confinement: `not jailed: ${reason}` };
  return {
    refusal: `it would run as root, if without rights (${reason}), and is used so only when the configuration insists`,
  };
}

/** Why it cannot be what a VM needs, in one phrase. */
async function needsRefusal(
  { exec, needs, rights = readOwnRights(), tunDevice }: FirecrackerInput,
  isJailed: boolean,
): Promise<string | undefined> {
  if (needs.disk !== 'raw')
    return `it cannot read this VM's disk, which is a file in the format ${needs.disk}`;
  if (needs.cpus > maxFirecrackerCpus)
    return `it gives a VM ${maxFirecrackerCpus} CPUs at most, and this one has ${needs.cpus}`;
  const isBridged = !ownNetworks.has(needs.network);
  // Taps of root's are for each VM's own user.
  if (isBridged && rights.uid === 0 && !isJailed)
    return `not jailed, as root, it may not open the taps of network "${needs.network}"`;
  return rootlessRefusal(exec, { isJailed, device: tunDevice });
}

/** Networks that a VMM has in a namespace of its own. */
const ownNetworks = new Set(['user', 'none']);
