import type { VmView } from '../engine/rpc/vm-methods.ts';
import { formatBytes } from '../state/units.ts';
import { printable } from './printable.ts';

const mib = 1024 ** 2;

/** `3 minutes ago`, as docker says it. */
export function ago(time: string | undefined, now: Date = new Date()): string {
  if (time === undefined) return '';
  const seconds = Math.max(0, Math.round((now.getTime() - new Date(time).getTime()) / 1000));
  const steps: readonly (readonly [number, string])[] = [
    [86_400, 'day'],
    [3_600, 'hour'],
    [60, 'minute'],
    [1, 'second'],
  ];
  for (const [length, unit] of steps) {
    const count = Math.floor(seconds / length);
    if (count >= 1) return `${count} ${unit}${count === 1 ? '' : 's'} ago`;
  }
  return 'just now';
}

/** One VM as lines of `key: value`. */
export function vmText(vm: VmView): string {
  const lines: [string, string | undefined][] = [
    ['Name', vm.name],
    ['Id', vm.id],
    ['State', vm.state],
    ['Last error', vm.lastError],
    ['Image', vm.image],
    ['Size', sizeText(vm)],
    ['Network', vm.network],
    ['VMM', vm.vmm],
    ['SSH', vm.sshPort === undefined ? undefined : `root@127.0.0.1 port ${vm.sshPort}`],
    ['Created', vm.createdAt],
    ['Started', vm.startedAt],
    ...vm.workspaces.map(({ hostPath, guestPath }): [string, string] => [
      'Workspace',
      `${hostPath} in ${guestPath}`,
    ]),
  ];
  return lines
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${`${key}:`.padEnd(12)}${printable(value!)}`)
    .join('\n');
}

/** `2 CPUs, 512 MiB memory, 8 GiB disk` */
export function sizeText(vm: Pick<VmView, 'cpus' | 'memoryMib' | 'diskBytes'>): string {
  const cpus = `${vm.cpus} CPU${vm.cpus === 1 ? '' : 's'}`;
  return `${cpus}, ${formatBytes(vm.memoryMib * mib)} memory, ${formatBytes(vm.diskBytes)} disk`;
}

/** `Finding image 0.1 s, Booting guest 2.4 s`: stages that took no time are left out. */
export function stagesText(stages: readonly { stage: string; seconds: number }[]): string {
  return stages
    .filter((one) => one.seconds >= 0.05)
    .map((one) => `${one.stage} ${one.seconds.toFixed(1)} s`)
    .join(', ');
}
