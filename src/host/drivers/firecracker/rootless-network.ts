import type { ChildProcess } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { abortError, BangerError, errnoOf } from '../../../errors.ts';
import type { Exec } from '../../exec.ts';
import { Deadline, giveUpAfter } from '../../patience.ts';
import { findProcessesByArguments, spawnDetached, type ProcessIdentity } from '../../process.ts';
import {
  isSameHostPort,
  userCard,
  type PortForward,
  type Reach,
  type TapNetwork,
  type UserNetwork,
} from '../driver.ts';
import { vmmEnvironment } from '../vmm-environment.ts';
import { lastWords } from '../vmm-process.ts';
import { isNobodyThere } from './api.ts';
import { networkFailedWords } from './namespace.ts';
import { confinedNetworkProgram, hideLoader, socketArguments } from './network-program.ts';

/**
 * A network for a VMM that needs a tap, without root: the VMM runs in a user and a network namespace of its own, in
 * which its tap and slirp4netns's are ports of one bridge. slirp4netns is what QEMU has inside, as a program: the
 * same addresses, the same way out, ports of the host forwarded to the guest.
 */
export const devices = { tap: 'vm', uplink: 'up', bridge: 'br' };
const guestAddress = userCard.address.split('/')[0]!;
/** The descriptor of the VMM that slirp4netns watches, and slirp4netns's own end of it. */
const pulseDescriptor = 3;
const startTimeoutMs = 10_000;
const startPollMs = 5;
const answerTimeoutMs = 5_000;
const maxAnswerBytes = 1024 * 1024;

/** The guest's card, as its VMM is told of it. The same for one VM at every start. */
export function rootlessCard(id: string): TapNetwork {
  const bytes = id.padEnd(10, '0').slice(0, 10).match(/../g)!;
  return { tap: devices.tap, mac: ['02', ...bytes].join(':'), address: guestAddress };
}

/** A namespace that gets a network, and what that is for. */
export interface Joined {
  /** Lives in the namespace */
  readonly process: ProcessIdentity;
  /** The other end of a descriptor of the VMM's */
  readonly pulse: Socket;
  readonly socket: string;
  readonly logFile: string;
  /** It is one of root's: who runs there has no user namespace */
  readonly isRoots: boolean;
  /** What is `/etc` for a slirp4netns that root starts (`makeNetworkEtc`) */
  readonly etc?: string;
}

/**
 * Gives a VMM that runs in namespaces of its own its tap, and makes the forwards lead into its guest; `tapUser` is who
 * may open it, as they are called there. What is started for that ends when the VMM does. Throws `busy` when a port was
 * taken meanwhile.
 */
export async function joinNetwork(
  exec: Exec,
  joined: Joined & { readonly tapUser: number },
  { network, signal }: { readonly network: UserNetwork; readonly signal: AbortSignal },
): Promise<void> {
  await withNetwork(joined, { network, signal }, async () => {
    const inside = insideWords(joined);
    await exec([...inside, 'ip', '-batch', '-'], { input: deviceCommands(joined.tapUser), signal });
    if (network.reach === 'none') await exec([...inside, 'nft', '-f', '-'], { input: cutOffRules, signal });
  });
}

/** A namespace that is a VMM's own, with a network that it was given (`joinNetwork`). */
type OwnNamespace = Pick<Joined, 'process' | 'isRoots'>;

/** True for a VMM whose own namespace the network with this socket is in, and not one beside it. */
export function isJoined({ pid }: ProcessIdentity, socket: string): boolean {
  return socketArguments(socket).some(
    (words) => findProcessesByArguments([...words, String(pid)]).length > 0,
  );
}

export async function readReach(exec: Exec, namespace: OwnNamespace): Promise<Reach> {
  const argv = [...insideWords(namespace), 'nft', 'list', 'tables', 'bridge'] as const;
  const { stdout } = await exec(argv, { timeoutMs: answerTimeoutMs });
  return stdout.toString('utf8').split('\n').includes(`table ${cutOffTable}`) ? 'none' : 'all';
}

/** Connections that lead in stay; those of a guest that is cut off get no answer any more. */
export async function changeReach(exec: Exec, namespace: OwnNamespace, reach: Reach): Promise<void> {
  // One that is not there cannot be removed: it is made first. All in one transaction.
  const clear = `table ${cutOffTable}\ndelete table ${cutOffTable}\n`;
  const input = reach === 'none' ? `${clear}${cutOffRules}` : clear;
  await exec([...insideWords(namespace), 'nft', '-f', '-'], { input, timeoutMs: answerTimeoutMs });
}

/** Starts slirp4netns for a namespace; ends it again when what is made with it, or a forward, cannot be. */
export async function withNetwork(
  joined: Joined,
  { network, signal }: { readonly network: UserNetwork; readonly signal: AbortSignal },
  wire: () => Promise<void>,
): Promise<void> {
  const { process, socket, etc } = joined;
  await rm(socket, { force: true });
  const program = confinedNetworkProgram(socket, { etc });
  const place = ['--api-socket', program.socket, String(process.pid), devices.uplink];
  const child = await spawnDetached([...program.words, '--exit-fd', String(pulseDescriptor), ...place], {
    logFile: joined.logFile,
    env: vmmEnvironment(),
    pulse: joined.pulse,
    directory: program.directory,
  });
  child.unref();
  try {
    await waitForAnswer(joined, child, signal);
    if (etc !== undefined) await hideLoader(etc);
    await wire();
    for (const port of network.forwards) await addForward(socket, port);
  } catch (error) {
    child.kill('SIGKILL');
    throw explainNetwork(error);
  }
}

/** The host lacks something, which its programs say in words of their own. */
function explainNetwork(error: unknown): unknown {
  if (!(error instanceof BangerError) || error.code !== 'command_failed') return error;
  return new BangerError('command_failed', `${networkFailedWords}${error.message}`, {
    hint: 'See what works here with: banger doctor --boot; or let QEMU run VMs: set driver = "qemu" under [vmm] in the configuration',
    cause: error,
  });
}

/** Words to start a program with where a process lives. */
export function insideWords({
  process,
  isRoots,
}: Pick<Joined, 'process' | 'isRoots'>): readonly [string, ...string[]] {
  const namespaces = isRoots ? ['--net'] : ['--user', '--net'];
  return ['nsenter', '--target', String(process.pid), ...namespaces, '--preserve-credentials', '--'];
}

/** The tap is its owner's to open, with no rights: the VMM is root in its namespace by name only, or not at all. */
function deviceCommands(owner: number): string {
  return [
    `tuntap add dev ${devices.tap} mode tap user ${owner}`,
    `link add name ${devices.bridge} type bridge`,
    `link set dev ${devices.uplink} master ${devices.bridge} up`,
    `link set dev ${devices.tap} master ${devices.bridge} up`,
    `link set dev ${devices.bridge} up`,
    '',
  ].join('\n');
}

/**
 * Nothing of the guest's passes but answers to what came in, which slirp4netns hands on from its own address. By their
 * flags: a bridge follows connections on some kernels only, and no connection begins without a SYN.
 */
const cutOffTable = 'bridge guest';
const cutOffRules = `table ${cutOffTable} {
  chain forward {
    type filter hook forward priority 0; policy drop;
    iifname "${devices.uplink}" accept
    ether type arp accept
    ip daddr ${userCard.gateway} tcp flags & (syn | ack) != syn accept
  }
}
`;

async function waitForAnswer(
  { socket, logFile }: Pick<Joined, 'socket' | 'logFile'>,
  child: ChildProcess,
  signal: AbortSignal,
): Promise<void> {
  const deadline = new Deadline(startTimeoutMs);
  for (;;) {
    if (signal.aborted) throw abortError(signal);
    if (child.exitCode !== null || child.signalCode !== null) {
      const words = lastWords(await readFile(logFile, 'utf8').catch(() => ''));
      throw new BangerError(
        'command_failed',
        `slirp4netns, the network of the VM, ended at once: ${words || 'it said nothing'}`,
      );
    }
    try {
      await listForwards(socket);
      return;
    } catch (error) {
      if (!isNobodyThere(error)) throw error;
    }
    if (deadline.isOver()) throw new BangerError('timeout', 'slirp4netns did not answer in time');
    await sleep(startPollMs);
  }
}

interface Entry {
  readonly id: number;
  readonly port: PortForward;
}

/** Ports that lead into the guest now. */
export async function listForwards(socket: string): Promise<readonly Entry[]> {
  const { entries = [] } = (await ask(socket, 'list_hostfwd')) as { readonly entries?: readonly ApiEntry[] };
  return entries.map(({ id, proto, host_addr: bind, host_port: hostPort, guest_port: guestPort }) => ({
    id,
    port: { protocol: proto === 'udp' ? 'udp' : 'tcp', bind, hostPort, guestPort },
  }));
}

/** As its API writes a forwarding (slirp4netns(1)). */
interface ApiEntry {
  readonly id: number;
  readonly proto: string;
  readonly host_addr: string;
  readonly host_port: number;
  readonly guest_port: number;
}

/** Throws `busy` when the port is taken. */
export async function addForward(socket: string, port: PortForward): Promise<void> {
  const { protocol: proto, bind, hostPort, guestPort } = port;
  const { error } = await answerTo(socket, 'add_hostfwd', {
    proto,
    host_addr: bind,
    host_port: hostPort,
    guest_addr: guestAddress,
    guest_port: guestPort,
  });
  if (!error) return;
  throw new BangerError(
    'busy',
    `Port ${hostPort}/${proto} of ${bind} cannot be published: it is taken, or not yours to have (slirp4netns: ${error.desc})`,
    { hint: `See who listens there with: ss -tulpn 'sport = :${hostPort}'` },
  );
}

/** One that is not there counts as removed. */
export async function removeForward(socket: string, port: PortForward): Promise<void> {
  for (const entry of await listForwards(socket)) {
    if (isSameHostPort(entry.port, port)) await ask(socket, 'remove_hostfwd', { id: entry.id });
  }
}

async function ask(socket: string, execute: string, args?: object): Promise<unknown> {
  const answer = await answerTo(socket, execute, args);
  if (answer.error) throw new BangerError('command_failed', `slirp4netns: ${answer.error.desc ?? execute}`);
  return answer.return ?? answer;
}

/** One question per connection. One that has ended, or does not listen yet, throws `command_failed`. */
async function answerTo(socket: string, execute: string, args?: object): Promise<Answer> {
  const connection = connect(socket);
  const takeBack = giveUpAfter(answerTimeoutMs, () =>
    connection.destroy(new BangerError('timeout', 'slirp4netns does not answer')),
  );
  try {
    let text = '';
    connection.end(JSON.stringify({ execute, ...(args && { arguments: args }) }));
    for await (const chunk of connection) {
      text += String(chunk);
      if (text.length > maxAnswerBytes) throw new BangerError('command_failed', 'slirp4netns says too much');
    }
    if (text === '') throw endedError();
    return parseAnswer(text);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ECONNRESET' || errno === 'EPIPE' || isNobodyThere(error)) throw endedError(error);
    throw error;
  } finally {
    takeBack();
    connection.destroy();
  }
}

/** Nothing else of the VM ends with it: its guest is cut off, and its ports lead nowhere. */
function endedError(cause?: unknown): BangerError {
  return new BangerError('command_failed', 'slirp4netns, the network of the VM, has ended', {
    hint: 'Its guest is cut off until it is started again: banger vm restart NAME',
    cause,
  });
}

interface Answer {
  readonly return?: unknown;
  readonly error?: { readonly desc?: string };
}

function parseAnswer(text: string): Answer {
  try {
    const answer: unknown = JSON.parse(text);
    if (typeof answer === 'object' && answer !== null) return answer;
  } catch {
    // Told below.
  }
  throw new BangerError('command_failed', `slirp4netns answers "${text.slice(0, 100)}"`);
}
