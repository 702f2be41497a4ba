import { readFile } from 'node:fs/promises';
import { BangerError } from '../../errors.ts';
import { QmpClient } from '../qmp.ts';
import { noNetworkError } from './vmm-process.ts';
import type { FoundReach, GuestActivity, GuestEnd, PortForward, VmmControl } from './driver.ts';

/** How the root disk and the network are named on QEMU's command line, for commands to name them. */
export const rootDrive = 'root';
export const userNetwork = 'net';
/** Between the network and the card: the ends of the hub that lead to the one and to the other. */
export const hubPort = 'out';
export const cardPort = 'card';
/** An end that leads nowhere, there only while the network is replaced */
const sparePort = 'spare';

/** Opens a QEMU's control socket. QEMU serves one client at a time: a second one waits until the first has gone. */
export async function openQemuControl(socket: string): Promise<VmmControl> {
  const qmp = await QmpClient.connect(socket);
  const activityListeners = new Set<() => void>();
  let end: GuestEnd | undefined;
  qmp.onEvent((event, data) => {
    if (event === 'GUEST_PANICKED') end = 'panic';
    if (event === 'SHUTDOWN') end ??= guestEnds.get(data['reason']);
    if (event === 'STOP' || event === 'RESUME') for (const listener of activityListeners) listener();
  });
  const monitor = async (line: string): Promise<string> =>
    String(await qmp.execute('human-monitor-command', { 'command-line': line })).trim();
  const remove = async (id: string): Promise<void> => void (await qmp.execute('netdev_del', { id }));
  const hasNetwork = async (): Promise<boolean> => parseReach(await monitor('info network')) !== undefined;
  return {
    pressPowerButton: async () => void (await qmp.execute('system_powerdown')),
    pause: async () => void (await qmp.execute('stop')),
    resume: async () => void (await qmp.execute('cont')),
    activity: async (timeoutMs) => {
      const activity = activityOf(await qmp.execute('query-status', undefined, timeoutMs));
      if (activity !== 'disk-failed') return activity;
      return lacksRoom(await qmp.execute('query-block', undefined, timeoutMs)) ? 'disk-full' : activity;
    },
    onActivity: (listener) => void activityListeners.add(listener),
    growDisk: async (size) => void (await qmp.execute('block_resize', { device: rootDrive, size })),
    forwards: async () => parseForwardTable(await monitor('info usernet')),
    addForward: async (port) => {
      // It says nothing when all went well.
      const words = await monitor(`hostfwd_add ${userNetwork} ${forwardRule(port)}`);
      if (words === '') return;
      if (!(await hasNetwork())) throw noNetworkError(port);
      await requireRights(port);
      throw new BangerError(
        'busy',
        `Port ${port.hostPort}/${port.protocol} of ${port.bind} cannot be published: it is taken (QEMU: ${words})`,
        { hint: `See who listens there with: ss -tulpn 'sport = :${port.hostPort}'` },
      );
    },
    removeForward: async (port) => {
      const words = await monitor(
        `hostfwd_remove ${userNetwork} ${port.protocol}:${port.bind}:${port.hostPort}`,
      );
      if (/ (?:removed|not found)$/.test(words) || !(await hasNetwork())) return;
      throw new BangerError('command_failed', `QEMU does not give up port ${port.hostPort}: ${words}`);
    },
    reach: async () => parseReach(await monitor('info network')),
    setReach: async (reach) => {
      if (!(await hasNetwork())) {
        throw new BangerError(
          'host_unsupported',
          'This VM has no network of QEMU whose reach could be changed',
        );
      }
      const forwards = parseForwardTable(await monitor('info usernet'));
      for (const port of forwards) await requireRights(port);
      // A packet that finds no other end in the hub waits there for good, and all of the guest's behind it.
      await remove(sparePort).catch(() => undefined);
      await qmp.execute('netdev_add', { type: 'hubport', id: sparePort, hubid: 0 });
      for (const id of [hubPort, userNetwork]) await remove(id);
      const isCutOff = reach === 'none';
      await qmp.execute('netdev_add', {
        type: 'user',
        id: userNetwork,
        ...(isCutOff && { restrict: true, ipv6: false }),
      });
      await qmp.execute('netdev_add', { type: 'hubport', id: hubPort, hubid: 0, netdev: userNetwork });
      await remove(sparePort);
      for (const port of forwards) {
        const words = await monitor(`hostfwd_add ${userNetwork} ${forwardRule(port)}`);
        if (words !== '')
          throw new BangerError(
            'invalid_state',
            `Port ${port.hostPort}/${port.protocol} of ${port.bind} was taken by another program at that moment`,
            { hint: 'Restart the VM, which gives it ports that are free: banger vm restart NAME' },
          );
      }
    },
    closed: qmp.closed.then(() => end),
    close: () => qmp.close(),
  };
}

/** Throws `host_unsupported` for a port that a VMM of root's could have when it started, and not any more. */
async function requireRights({ hostPort, protocol }: PortForward): Promise<void> {
  const first = await firstFreePort();
  if (hostPort >= first || process.getuid!() !== 0) return;
  throw new BangerError(
    'host_unsupported',
    `Port ${hostPort}/${protocol} cannot be published while the VM runs: its VMM has not the rights for ports below ${first} any more`,
    { hint: 'Stop the VM, change it, and start it again: banger vm stop NAME' },
  );
}

/** The first port that everybody may listen on. */
async function firstFreePort(): Promise<number> {
  const text = await readFile('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8').catch(() => '1024');
  return Number(text);
}

/** QEMU's ShutdownCause values that mean the guest ended by itself (qapi/run-state.json) */
const guestEnds: ReadonlyMap<unknown, GuestEnd> = new Map([
  ['guest-shutdown', 'power-off'],
  ['guest-reset', 'reset'],
  ['guest-panic', 'panic'],
]);

/** QEMU's RunState values (qapi/run-state.json). It stops a guest by itself when the host does not take a write. */
const activities: ReadonlyMap<unknown, GuestActivity> = new Map([
  ['running', 'running'],
  ['paused', 'paused'],
  ['suspended', 'paused'],
  ['io-error', 'disk-failed'],
]);

function activityOf(reply: unknown): GuestActivity {
  const { status } = reply as { readonly status?: unknown };
  return activities.get(status) ?? 'other';
}

/** True when a drive's last write failed for want of room (BlockDeviceIoStatus in qapi/block-core.json). */
function lacksRoom(reply: unknown): boolean {
  return (reply as readonly { readonly 'io-status'?: string }[]).some(
    (drive) => drive['io-status'] === 'nospace',
  );
}

/** Reads `info network`. Without a hub, as earlier builds started it, a network is for good. */
export function parseReach(text: string): FoundReach | undefined {
  const line = text.split('\n').find((one) => one.includes(`${userNetwork}: `) && one.includes('type=user'));
  if (line === undefined) return undefined;
  return {
    // A network that is gone, and one that does not say, are not to be taken for open ones.
    reach: line.includes('restrict=off') ? 'all' : 'none',
    canChange: line.includes(`${hubPort}: ${userNetwork}: `),
  };
}

/** A forwarding as QEMU's options and monitor write it. */
export function forwardRule({ protocol, bind, hostPort, guestPort }: PortForward): string {
  return `${protocol}:${bind}:${hostPort}-:${guestPort}`;
}

/** Every forwarding in the options of a QEMU's network. */
export function parseForwardRules(options: string): PortForward[] {
  return [...options.matchAll(/hostfwd=(tcp|udp):([0-9.]+):(\d+)-:(\d+)/g)].map(([, ...words]) =>
    toForward(words),
  );
}

/** Every forwarding in what `info usernet` prints; `*` is how it writes an address that means all. */
export function parseForwardTable(text: string): PortForward[] {
  return [...text.matchAll(/(TCP|UDP)\[HOST_FORWARD\]\s+\d+\s+(\S+)\s+(\d+)\s+\S+\s+(\d+)/g)].map(
    ([, ...words]) => toForward(words),
  );
}

function toForward([protocol, bind, hostPort, guestPort]: readonly (string | undefined)[]): PortForward {
  return {
    protocol: protocol?.toLowerCase() === 'udp' ? 'udp' : 'tcp',
    bind: bind === undefined || bind === '*' ? '0.0.0.0' : bind,
    hostPort: Number(hostPort),
    guestPort: Number(guestPort),
  };
}
