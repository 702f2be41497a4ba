import { connect, type Socket } from 'node:net';
import { finished } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError, errorText } from '../errors.ts';
import { sshWay } from '../engine/rpc/ssh-methods.ts';
import type { Cli } from './cli.ts';
import { UsageError } from './usage-error.ts';

/** How long a server may turn us away, and how long we wait before we ask again, in milliseconds. */
export interface ProxyPatience {
  readonly totalMs: number;
  readonly pauseMs: number;
}

interface Server {
  readonly vm: string;
  readonly host: string;
  readonly port: number;
}

const defaultPatience: ProxyPatience = { totalMs: 30_000, pauseMs: 300 };

/**
 * Connects standard input and output to the SSH service of a VM, as ssh's ProxyCommand. What ssh says to the guest
 * goes there without the engine, so that a session outlives an engine that is replaced.
 */
export async function sshProxy(
  cli: Cli,
  words: readonly string[],
  output: NodeJS.WritableStream,
  patience = defaultPatience,
): Promise<void> {
  const [host] = words;
  if (host === undefined || words.length > 1) {
    throw new UsageError('ssh-proxy is for ssh to run', 'Set it up with: banger ssh-config --install');
  }
  const { vm, address, port } = await cli.call(sshWay, { host });
  const { stream: input } = cli.standardInput();
  const socket = await reachServer({ vm, host: address, port }, patience);
  try {
    input.pipe(socket);
    socket.pipe(output, { end: false });
    input.once('error', () => socket.destroy());
    // When ssh has said everything the guest is told, and still has its say; when the guest has, it is over.
    await finished(socket, { writable: false });
  } catch {
    // The guest went in the middle of a session: ssh tells of that itself.
    cli.exitWith(1);
  } finally {
    socket.destroy();
    input.destroy();
  }
}

/**
 * Connects until the server greets. It takes five clients at a time that have not logged in yet, and hangs up on
 * others at once: nothing is lost then by asking again, since it has not heard anything.
 */
async function reachServer(server: Server, { totalMs, pauseMs }: ProxyPatience): Promise<Socket> {
  const deadline = performance.now() + totalMs;
  for (;;) {
    const socket = await connected(server);
    if (await greets(socket)) return socket;
    socket.destroy();
    if (performance.now() > deadline) throw silent(server.vm, 'it hangs up before it says anything');
    // Not all at the same moment again.
    await sleep(pauseMs * (0.5 + Math.random()));
  }
}

/** True when something is there to be read, false when the other side has hung up. What it says stays to be read. */
function greets(socket: Socket): Promise<boolean> {
  return new Promise((resolve) => {
    socket.once('readable', () => resolve(socket.readableLength > 0));
    socket.once('error', () => resolve(false));
    socket.once('close', () => resolve(false));
  });
}

async function connected({ vm, host, port }: Server): Promise<Socket> {
  const socket = connect({ host, port, noDelay: true });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
  } catch (cause) {
    throw silent(vm, errorText(cause), cause);
  }
  return socket;
}

function silent(vm: string, why: string, cause?: unknown): BangerError {
  return new BangerError('guest_unreachable', `The SSH service of VM "${vm}" does not answer: ${why}`, {
    hint: `What the guest says: banger vm logs ${vm}`,
    cause,
  });
}
