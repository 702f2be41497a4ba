import { statSync } from 'node:fs';
import { BangerError, errorText } from '../../errors.ts';
import type { Acceleration } from '../drivers/driver.ts';
import type { Exec } from '../exec.ts';
import { deviceRefusal, probeKvm, rememberedVerdict, type KvmVerdict } from '../kvm-probe.ts';
import { fail, pass, skip, warn, type CheckResult, type Subject } from './check.ts';
import { virtualizationFlags } from './platform.ts';
import type { Scratch } from './scratch.ts';

export interface AccelerationInput {
  readonly exec: Exec;
  readonly qemuProgram: string;
  /** False when QEMU is missing or unfit: then nothing is tried */
  readonly hasQemu: boolean;
  /** What the configuration asks for */
  readonly wanted: 'auto' | Acceleration;
  readonly configFile: string;
  readonly kernel: () => Promise<string>;
  readonly initrd: () => Promise<string>;
  readonly scratch: Scratch;
  /** Verdict that the engine goes by */
  readonly verdictFile: string;
  readonly device: string;
  /** Texts of /proc/cpuinfo and /etc/group */
  readonly cpuinfo: string;
  readonly groups: string;
  readonly onProbe: () => void;
}

export interface AccelerationFindings {
  readonly checks: readonly CheckResult[];
  readonly acceleration: Acceleration;
}

const kvm: Subject = { id: 'kvm', title: 'KVM' };
const decision: Subject = { id: 'acceleration', title: 'VMs will run by' };
const consequence = 'emulation is used, CPU work is 10 to 20 times slower';

/** Whether KVM works, found out by booting on it, and what follows for VMs. */
export async function checkAcceleration(input: AccelerationInput): Promise<AccelerationFindings> {
  if (!input.hasQemu) {
    const reason = 'not tried: QEMU comes first';
    return { checks: [skip(kvm, reason), skip(decision, reason)], acceleration: 'tcg' };
  }
  const verdict = await freshVerdict(input);
  const acceleration = input.wanted === 'auto' ? (verdict.works ? 'kvm' : 'tcg') : input.wanted;
  return { checks: [await kvmResult(input, verdict), decide(input, verdict)], acceleration };
}

async function freshVerdict(input: AccelerationInput): Promise<KvmVerdict> {
  const refusal = deviceRefusal(input.device);
  if (refusal) return refusal;
  input.onProbe();
  try {
    return await probeKvm({ ...input, temporaryDirectory: await input.scratch.directory() });
  } catch (error) {
    return { works: false, reason: `could not be tried: ${errorText(error)}` };
  }
}

async function kvmResult(input: AccelerationInput, verdict: KvmVerdict): Promise<CheckResult> {
  const flags = virtualizationFlags(input.cpuinfo);
  const earlier = await engineVerdict(input);
  if (earlier && earlier.works !== verdict.works && !deviceRefusal(input.device)) {
    return warn(
      kvm,
      `${verdict.reason}, but an earlier probe, which VMs go by, found: ${earlier.reason}`,
      `Have it probed again: rm ${input.verdictFile}; banger engine stop`,
    );
  }
  if (verdict.works) return pass(kvm, `works: ${verdict.reason}`);
  const hint = `processor flags: ${flags.join(' ') || 'neither vmx nor svm'}`;
  return warn(kvm, `${verdict.reason}: ${consequence} (${hint})`, fixFor(input, flags));
}

/** Only a look: an unreadable one says nothing about this host. */
async function engineVerdict(input: AccelerationInput): Promise<KvmVerdict | undefined> {
  try {
    return await rememberedVerdict(input, input.verdictFile);
  } catch (error) {
    if (error instanceof BangerError) return undefined;
    throw error;
  }
}

function decide(input: AccelerationInput, verdict: KvmVerdict): CheckResult {
  const emulated = 'QEMU with emulation (TCG)';
  switch (input.wanted) {
    case 'auto':
      return pass(decision, verdict.works ? 'QEMU with KVM' : emulated);
    case 'tcg':
      return pass(decision, `${emulated}, as the configuration says`);
    case 'kvm':
      return verdict.works
        ? pass(decision, 'QEMU with KVM, as the configuration says')
        : fail(
            decision,
            'QEMU with KVM, as the configuration says, which does not work here',
            `Set accel = "auto" under [vmm] in ${input.configFile}`,
          );
  }
}

/** How to get at KVM; where nobody on this host can do anything about it, what that means. */
function fixFor(input: AccelerationInput, flags: readonly string[]): string {
  const status = statSync(input.device, { throwIfNoEntry: false });
  if (status && deviceRefusal(input.device)) return openDevice(input.device, status, input.groups);
  const isVirtual = flags.includes('hypervisor');
  if (!status) {
    if (flags.includes('vmx')) return 'Load its module: sudo modprobe kvm_intel';
    if (flags.includes('svm')) return 'Load its module: sudo modprobe kvm_amd';
    if (!isVirtual) return 'Turn on virtualization (VT-x or AMD-V) in the firmware of this machine';
  }
  return isVirtual
    ? 'VMs run without it. To be faster, this host, a VM itself, needs nested virtualization from its own host'
    : 'VMs run without it. To see what the kernel says: sudo dmesg | grep -i kvm';
}

/** How to be let in: by the group of the device where it may read and write, unless that group is root's own. */
export function openDevice(
  device: string,
  { gid, mode }: { readonly gid: number; readonly mode: number },
  groups: string,
): string {
  const group = new RegExp(`^([^:]+):[^:]*:${gid}:`, 'm').exec(groups)?.[1];
  if (group && gid !== 0 && (mode & 0o060) === 0o060) {
    return `Join its group, then log in again: sudo usermod -aG ${group} $USER`;
  }
  return `Open it until the next boot: sudo setfacl -m u:$USER:rw ${device}`;
}
