import { fail, gib, pass, sizeText, skip, warn, type CheckResult } from './check.ts';

/** Oldest kernel that the program itself is built for. */
const minKernel = [4, 18] as const;
const minMemoryBytes = gib;
/** The engine needs a few descriptors for each VM. */
const minOpenFiles = 256;

export function checkArchitecture(platform: string, architecture: string): CheckResult {
  const subject = { id: 'architecture', title: 'Architecture' };
  const evidence = `${platform} on ${architecture}`;
  if (platform === 'linux' && architecture === 'x64') return pass(subject, evidence);
  return fail(subject, `${evidence}; VMs need Linux on x86-64`, 'Use an x86-64 machine that runs Linux');
}

/** `release` as `uname -r` prints it. */
export function checkKernel(release: string): CheckResult {
  const subject = { id: 'kernel', title: 'Host kernel' };
  const match = /^(\d+)\.(\d+)/.exec(release);
  if (!match) return skip(subject, `"${release}" is not a version`);
  const [major, minor] = [Number(match[1]), Number(match[2])];
  const isOld = major < minKernel[0] || (major === minKernel[0] && minor < minKernel[1]);
  return isOld
    ? warn(subject, `${release} is older than ${minKernel.join('.')}`, 'Update the distribution of this host')
    : pass(subject, release);
}

/** `meminfo` is the text of /proc/meminfo. */
export function checkMemory(meminfo: string): CheckResult {
  const subject = { id: 'memory', title: 'Memory' };
  const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(meminfo)?.[1];
  if (kib === undefined) return skip(subject, 'the kernel does not say how much is available');
  const bytes = Number(kib) * 1024;
  const evidence = `${sizeText(bytes)} available`;
  if (bytes >= minMemoryBytes) return pass(subject, evidence);
  return warn(subject, evidence, 'End other programs, or make smaller VMs: banger vm create --memory 256M');
}

/** `limits` is the text of /proc/self/limits. */
export function checkOpenFiles(limits: string): CheckResult {
  const subject = { id: 'open-files', title: 'Open files' };
  const soft = /^Max open files\s+(\d+|unlimited)\s/m.exec(limits)?.[1];
  if (soft === undefined) return skip(subject, 'the kernel does not say how many may be open');
  const evidence = `limit ${soft}`;
  if (soft === 'unlimited' || Number(soft) >= minOpenFiles) return pass(subject, evidence);
  return warn(subject, evidence, 'Raise the limit in this shell: ulimit -n 4096');
}

/** Flags of the processor that say something about virtualization: a hint only, the boot probe decides. */
export function virtualizationFlags(cpuinfo: string): readonly string[] {
  const flags = /^flags\s*:(.*)$/m.exec(cpuinfo)?.[1]?.trim().split(/\s+/) ?? [];
  return ['vmx', 'svm', 'hypervisor'].filter((flag) => flags.includes(flag));
}
