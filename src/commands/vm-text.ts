import type { VmView } from '../engine/rpc/vm-methods.ts';
import { formatBytes, formatDuration } from '../state/units.ts';
import { printable } from '../printable.ts';
import { egressText } from './egress-options.ts';

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
    ['At restart', pendingText(vm)],
    ...Object.entries(vm.labels).map(([key, value]): [string, string] => ['Label', `${key}=${value}`]),
    ['Network', vm.address === undefined ? vm.network : `${vm.network}, as ${vm.address}`],
    ['Egress', egressText(vm.egress, vm.network)],
    ['VMM', vm.vmmReason === undefined ? vm.vmm : `${vm.vmm}, ${vm.vmmReason}`],
    ['SSH', vm.sshPort === undefined ? undefined : `root@${vm.sshHost ?? '127.0.0.1'} port ${vm.sshPort}`],
    ...vm.ports.map((port): [string, string] => ['Port', `${portText(port)}${wishText(port)}`]),
    ...vm.sockets.map((socket): [string, string] => ['Socket', socketText(socket)]),
    ['Publishes', vm.publishesAll ? 'whatever listens in it, too' : undefined],
    ['Stops', stopRuleText(vm)],
    ['Created', vm.createdAt],
    ['Started', vm.startedAt],
    ...vm.workspaces.map(({ hostPath, guestPath }): [string, string] => [
      'Workspace',
      `${hostPath} in ${guestPath}`,
    ]),
    ...vm.fileSync.map(({ hostPath, guestPath, source }): [string, string] => [
      'File sync',
      `${hostPath} to ${guestPath}${source === 'config' ? ', as the configuration says' : ''}`,
    ]),
  ];
  return lines
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${`${key}:`.padEnd(12)}${printable(value!)}`)
    .join('\n');
}

/** `127.0.0.1:8080->80/tcp`, as docker writes it */
export function portText({ bind, hostPort, guestPort, protocol }: VmView['ports'][number]): string {
  return `${bind}:${hostPort}->${guestPort}/${protocol}`;
}

/** Whoever looks there finds another program. */
function wishText({ wished }: VmView['ports'][number]): string {
  return wished === undefined ? '' : ` (${wished} was taken)`;
}

/** `/run/user/1000/docker.sock->/run/docker.sock` */
export function socketText({ hostPath, guestPath }: VmView['sockets'][number]): string {
  return `${hostPath}->${guestPath}`;
}

/** What waits for the next start: `2 CPUs, host name db`. Undefined when nothing does. */
export function pendingText({ pending }: Pick<VmView, 'pending'>): string | undefined {
  if (!pending) return undefined;
  const words = [
    pending.cpus === undefined ? undefined : cpusText(pending.cpus),
    pending.memoryMib === undefined ? undefined : `${formatBytes(pending.memoryMib * mib)} memory`,
    pending.diskBytes === undefined ? undefined : `${formatBytes(pending.diskBytes)} disk`,
    pending.hostname === undefined ? undefined : `host name ${pending.hostname}`,
  ];
  return words.filter((word) => word !== undefined).join(', ');
}

function stopRuleText({ ttlMs, idleStopMs, expiresAt }: VmView): string | undefined {
  const words = [
    ttlMs === undefined
      ? undefined
      : `running ${formatDuration(ttlMs)}${expiresAt ? ` (at ${expiresAt})` : ''}`,
    idleStopMs === undefined ? undefined : `being unused for ${formatDuration(idleStopMs)}`,
  ].filter((word) => word !== undefined);
  return words.length === 0 ? undefined : `after ${words.join(', or ')}`;
}

/** `2 CPUs, 512 MiB memory, 8 GiB disk` */
export function sizeText(vm: Pick<VmView, 'cpus' | 'memoryMib' | 'diskBytes'>): string {
  return `${cpusText(vm.cpus)}, ${formatBytes(vm.memoryMib * mib)} memory, ${formatBytes(vm.diskBytes)} disk`;
}

function cpusText(count: number): string {
  return `${count} CPU${count === 1 ? '' : 's'}`;
}

/** `Finding image 0.1 s, Booting guest 2.4 s`: stages that took no time are left out. */
export function stagesText(stages: readonly { stage: string; seconds: number }[]): string {
  return stages
    .filter((one) => one.seconds >= 0.05)
    .map((one) => `${one.stage} ${one.seconds.toFixed(1)} s`)
    .join(', ');
}
