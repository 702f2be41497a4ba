import { statSync } from 'node:fs';
import { BangerError, errorText } from '../../errors.ts';
import type { DiskMethodName } from '../disks/disk-method.ts';
import type { Acceleration, DriverName } from '../drivers/driver.ts';
import type { JailerWish } from '../drivers/firecracker/jail.ts';
import type { Exec } from '../exec.ts';
import {
  deviceErrno,
  deviceRefusal,
  probedFirecracker,
  probedQemu,
  probeKvm,
  rememberedVerdict,
  type KvmVerdict,
  type ProbedVmm,
} from '../kvm-probe.ts';
import {
  chooseVmm,
  firecrackerVerdict,
  type FirecrackerVerdict,
  type VmmChoice,
  type VmmNeeds,
  type VmmWish,
} from '../vmm-choice.ts';
import { fail, pass, skip, warn, type CheckResult, type Subject } from './check.ts';
import { virtualizationFlags } from './platform.ts';
import type { Scratch } from './scratch.ts';

export interface AccelerationInput {
  readonly exec: Exec;
  readonly qemuProgram: string;
  /** False when QEMU is missing or unfit: then it is not tried */
  readonly hasQemu: boolean;
  /** What VMs are made with unless told otherwise */
  readonly network: string;
  readonly diskMethod: 'auto' | DiskMethodName;
  readonly cpus?: number;
  /** What the configuration asks for */
  readonly wanted: 'auto' | Acceleration;
  readonly driver: VmmWish['driver'];
  readonly firecrackerProgram: string;
  readonly firecrackerJailer: JailerWish;
  /** False when it is missing or unfit: then it is not tried */
  readonly hasFirecracker: boolean;
  readonly guestId: () => Promise<string>;
  readonly configFile: string;
  readonly kernel: () => Promise<string>;
  readonly initrd: () => Promise<string>;
  readonly scratch: Scratch;
  /** On the filesystem where VMs are, for what a jail is made of */
  readonly jailScratch: Scratch;
  /** Verdicts that the engine goes by */
  readonly verdictFile: string;
  readonly firecrackerVerdictFile: string;
  readonly device: string;
  /** How long a guest may take to boot; as long as the engine gives it unless given */
  readonly timeoutMs?: number;
  /** Texts of /proc/cpuinfo and /etc/group */
  readonly cpuinfo: string;
  readonly groups: string;
  readonly onProbe: () => void;
}

export interface AccelerationFindings {
  readonly checks: readonly CheckResult[];
  /** By which VMM VMs will be run */
  readonly driver: DriverName;
  /** Of VMs that QEMU runs */
  readonly acceleration: Acceleration;
}

const kvm: Subject = { id: 'kvm', title: 'KVM' };
const firecrackerOnKvm: Subject = { id: 'firecracker-kvm', title: 'Firecracker on KVM' };
const decision: Subject = { id: 'acceleration', title: 'VMs will run by' };
/** Where the configuration insists on KVM, VMs go by no probe, and a guest has as long as any VM's, on a slow host too. */
const insistedMs = 120_000;
const consequence = 'emulation is used, CPU work is 10 to 20 times slower';

/** Whether KVM works for each VMM, found out by booting on it, and what follows for VMs. */
export async function checkAcceleration(input: AccelerationInput): Promise<AccelerationFindings> {
  if (!input.hasQemu && !input.hasFirecracker) {
    const checks = [kvm, firecrackerOnKvm, decision].map((one) => skip(one, 'not tried: there is no VMM'));
    return { checks, driver: 'qemu', acceleration: 'tcg' };
  }
  const qemu = input.hasQemu ? await freshVerdict(input, probedQemu(input.qemuProgram)) : noQemu;
  const kvmCheck = input.hasQemu ? await kvmResult(input, qemu) : skip(kvm, `not tried: ${noQemu.reason}`);
  const firecracker = await tryFirecracker(input);
  const { check, choice } = await decide(input, { qemu, firecracker: firecracker.verdict });
  const { wanted } = input;
  return {
    checks: [kvmCheck, firecracker.check, check],
    driver: choice?.driver ?? 'qemu',
    acceleration: wanted === 'auto' ? (qemu.works ? 'kvm' : 'tcg') : wanted,
  };
}

const noQemu: KvmVerdict = { works: false, reason: 'there is no QEMU that is fit' };

/** VMs run without it: what is wrong is told, and is no problem. */
async function tryFirecracker(
  input: AccelerationInput,
): Promise<{ readonly check: CheckResult; readonly verdict: KvmVerdict }> {
  const notTried = (reason: string) => ({
    check: skip(firecrackerOnKvm, `not tried: ${reason}`),
    verdict: { works: false, reason },
  });
  if (!input.hasFirecracker) return notTried('there is no Firecracker that is fit');
  const refusal = deviceRefusal(input.device);
  if (refusal) return notTried(refusal.reason);
  const verdict = await freshVerdict(
    input,
    probedFirecracker(input.firecrackerProgram, input.firecrackerJailer),
    input.jailScratch,
  );
  const stale = staleVerdict(verdict, await engineVerdictOfFirecracker(input));
  if (stale !== undefined)
    return { check: warn(firecrackerOnKvm, stale, probeAgain(input.firecrackerVerdictFile)), verdict };
  const isOfDevice = verdict.reason.startsWith('opens');
  const check = verdict.works
    ? pass(firecrackerOnKvm, `works: ${verdict.reason}`)
    : warn(firecrackerOnKvm, `${isOfDevice ? '/dev/kvm ' : ''}${verdict.reason}`);
  return { check, verdict };
}

async function freshVerdict(
  input: AccelerationInput,
  vmm: ProbedVmm,
  scratch = input.scratch,
): Promise<KvmVerdict> {
  const refusal = deviceRefusal(input.device);
  if (refusal) return refusal;
  input.onProbe();
  try {
    const guestId = await input.guestId();
    const [temporaryDirectory, socketDirectory] = [scratch.directory, input.scratch.directory];
    const timeoutMs = input.timeoutMs ?? (input.wanted === 'kvm' ? insistedMs : undefined);
    return await probeKvm({ ...input, vmm, guestId, temporaryDirectory, socketDirectory, timeoutMs });
  } catch (error) {
    return { works: false, reason: `could not be tried: ${errorText(error)}` };
  }
}

async function kvmResult(input: AccelerationInput, verdict: KvmVerdict): Promise<CheckResult> {
  const flags = virtualizationFlags(input.cpuinfo);
  const earlier = deviceRefusal(input.device)
    ? undefined
    : await engineVerdict(input, probedQemu(input.qemuProgram), input.verdictFile);
  const stale = staleVerdict(verdict, earlier);
  if (stale !== undefined) return warn(kvm, stale, probeAgain(input.verdictFile));
  if (verdict.works) return pass(kvm, `works: ${verdict.reason}`);
  const hint = `processor flags: ${flags.join(' ') || 'neither vmx nor svm'}`;
  return warn(kvm, `${verdict.reason}: ${consequence} (${hint})`, fixFor(input, flags));
}

/** What VMs go by, where that is not what was just found. */
function staleVerdict(verdict: KvmVerdict, earlier: KvmVerdict | undefined): string | undefined {
  if (!earlier || earlier.works === verdict.works) return undefined;
  return `${verdict.reason}, but an earlier probe, which VMs go by, found: ${earlier.reason}`;
}

function probeAgain(file: string): string {
  return `Have it probed again: rm ${file}; banger engine stop`;
}

/** Of the confinement that VMs would have. */
async function engineVerdictOfFirecracker(input: AccelerationInput): Promise<KvmVerdict | undefined> {
  let earlier: KvmVerdict | undefined;
  const any = { network: 'user', disk: 'raw', cpus: 1 } as const;
  await judgeFirecracker(input, any, async (vmm) => {
    earlier = await engineVerdict(input, vmm, input.firecrackerVerdictFile);
    return earlier ?? { works: false, reason: 'not probed' };
  });
  return earlier;
}

/** As the engine does, but for the boot. */
function judgeFirecracker(
  input: AccelerationInput,
  needs: VmmNeeds,
  probe: (vmm: ProbedVmm) => Promise<KvmVerdict>,
): Promise<FirecrackerVerdict> {
  return firecrackerVerdict({
    exec: input.exec,
    vmm: probedFirecracker(input.firecrackerProgram, input.firecrackerJailer),
    probe,
    needs,
    isInsistedOn: input.driver === 'firecracker',
    jailer: input.firecrackerJailer,
  });
}

/** Only a look: an unreadable one says nothing about this host. */
async function engineVerdict(
  input: AccelerationInput,
  vmm: ProbedVmm,
  file: string,
): Promise<KvmVerdict | undefined> {
  try {
    return await rememberedVerdict({ exec: input.exec, vmm, guestId: await input.guestId() }, file);
  } catch (error) {
    if (error instanceof BangerError) return undefined;
    throw error;
  }
}

/** What the engine will choose, in the same way, by what was just found out. */
async function decide(
  input: AccelerationInput,
  verdicts: { readonly qemu: KvmVerdict; readonly firecracker: KvmVerdict },
): Promise<{ readonly check: CheckResult; readonly choice?: VmmChoice }> {
  const wish = { driver: input.driver, accel: input.wanted };
  try {
    const { network, diskMethod, cpus = 1 } = input;
    const needs = { network, disk: diskMethod === 'qcow2' ? 'qcow2' : 'raw', cpus } as const;
    const firecracker = () => judgeFirecracker(input, needs, () => Promise.resolve(verdicts.firecracker));
    const choice = await chooseVmm(wish, { firecracker, qemu: () => Promise.resolve(verdicts.qemu) });
    if (choice.driver === 'qemu' && !input.hasQemu)
      return { choice, check: skip(decision, `not decided: ${noQemu.reason}`) };
    if (choice.driver === 'qemu' && choice.acceleration === 'kvm' && !verdicts.qemu.works) {
      const fix = `Set accel = "auto" under [vmm] in ${input.configFile}`;
      return { choice, check: fail(decision, `${choiceText(choice)}, which does not work here`, fix) };
    }
    return { choice, check: pass(decision, choiceText(choice)) };
  } catch (error) {
    if (!(error instanceof BangerError)) throw error;
    return {
      check: fail(decision, error.message, `Set driver = "auto" under [vmm] in ${input.configFile}`),
    };
  }
}

function choiceText({ driver, acceleration, reason }: VmmChoice): string {
  const name = driver === 'qemu' ? 'QEMU' : 'Firecracker';
  const how = acceleration === 'kvm' ? `${name} with KVM` : `${name} with emulation (TCG)`;
  const because = /as the configuration says/.test(reason) ? ', as the configuration says' : '';
  return `${how}${because}${/; (?:not Firecracker: |not jailed: |jailed).*/.exec(reason)?.[0] ?? ''}`;
}

/** How to get at KVM; where nobody on this host can do anything about it, what that means. */
function fixFor(input: AccelerationInput, flags: readonly string[]): string {
  const errno = deviceErrno(input.device);
  if (errno === 'EACCES') return openDevice(input.device, statSync(input.device), input.groups);
  if (errno === 'EPERM') return `Let this container have it, as with: docker run --device ${input.device}`;
  const isVirtual = flags.includes('hypervisor');
  if (errno !== undefined) {
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
