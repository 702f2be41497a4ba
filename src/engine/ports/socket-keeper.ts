import { chmod, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { errorText } from '../../errors.ts';
import { monotonicMs } from '../../host/clock.ts';
import { ensureSocketLink, removeSocketLink } from '../../host/socket-link.ts';
import type { PublishedSocket } from '../../state/sockets.ts';
import { getVm, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { forAll } from '../for-all.ts';
import type { GuestProcess } from '../guest.ts';
import { withoutLocks } from '../locks.ts';
import { linkOf } from './published-sockets.ts';

/** Connections to one socket at a time. Each has an SSH connection of its own to the guest; others are hung up on. */
const maxConnections = 64;
/** That others were hung up on is said this often at most. */
const fullSayingMs = 60_000;
/** What a guest says about a connection that it could not make; beyond this it is not listened to. */
const maxReasonBytes = 1024;

interface Connection {
  readonly socket: PublishedSocket;
  readonly client: Socket;
  /** Aborted when it is over before all was said */
  readonly gone: AbortController;
}

interface OpenSocket extends PublishedSocket {
  readonly server: Server;
  /** End the connections that are carried now */
  readonly carried: Set<AbortController>;
}

/**
 * Unix sockets of the host that lead into running VMs. Each connection is carried by a relay of ours in the guest, to
 * which it is standard input and output. They end with the engine; the one that adopts the VM listens again.
 */
export class SocketKeeper {
  readonly #open = new Map<string, OpenSocket[]>();
  readonly #context: () => EngineContext;

  constructor(context: () => EngineContext) {
    this.#context = context;
  }

  /** Makes it what the VM's row says. Throws `busy` when a path is taken; all others are there then. */
  async match(vm: Vm): Promise<void> {
    const open = this.#open.get(vm.id) ?? [];
    this.#open.set(vm.id, open);
    const surplus = open.filter((one) => !vm.sockets.some((socket) => isSame(socket, one)));
    const missing = vm.sockets.filter((socket) => !open.some((one) => isSame(one, socket)));
    const changes = [
      ...surplus.map((one) => async () => {
        open.splice(open.indexOf(one), 1);
        await this.#take(vm.id, one);
      }),
      ...missing.map((socket) => async () => void open.push(await this.#publish(vm.id, socket))),
    ];
    await forAll(changes, (change) => change());
  }

  /** Takes back a VM's sockets, with the connections to them. Nobody listens any more, also when it throws. */
  async drop(id: string): Promise<void> {
    const open = this.#open.get(id) ?? [];
    this.#open.delete(id);
    await forAll(open, (one) => this.#take(id, one));
  }

  /** Ends with the engine. The links stay: the next engine listens where they lead. */
  close(): void {
    for (const open of this.#open.values()) for (const one of open) shut(one);
    this.#open.clear();
  }

  async #publish(id: string, socket: PublishedSocket): Promise<OpenSocket> {
    const link = linkOf(this.#context().layout, id, socket);
    // In a directory of ours, under a name that is this VM's: what is there is left of an engine that was killed.
    await rm(link.target, { force: true });
    const carried = new Set<AbortController>();
    let nextSaying = 0;
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
      client.on('error', () => undefined);
      if (carried.size < maxConnections) {
        const gone = new AbortController();
        carried.add(gone);
        const connection = { socket, client, gone };
        void withoutLocks(() => this.#carry(id, connection)).finally(() => carried.delete(gone));
        return;
      }
      client.destroy();
      if (monotonicMs() < nextSaying) return;
      nextSaying = monotonicMs() + fullSayingMs;
      this.#say(id, socket, `it has ${maxConnections} connections already, and more are hung up on`);
    });
    try {
      await listen(server, link.target);
      server.on('error', (error) => this.#say(id, socket, errorText(error)));
      await ensureSocketLink(link);
    } catch (error) {
      server.close();
      throw error;
    }
    return { ...socket, server, carried };
  }

  /** The link first: nobody finds a path that leads nowhere. */
  async #take(id: string, one: OpenSocket): Promise<void> {
    try {
      await removeSocketLink(linkOf(this.#context().layout, id, one));
    } finally {
      shut(one);
    }
  }

  /** One connection. What goes wrong can only be told by its end; the log says why. */
  async #carry(id: string, { socket, client, gone }: Connection): Promise<void> {
    gone.signal.addEventListener('abort', () => client.destroy());
    client.once('close', (hadError) => {
      // When both have said all, the last of it may still be on its way into the guest.
      if (hadError || !client.readableEnded || !client.writableFinished) gone.abort();
    });
    try {
      const context = this.#context();
      const guest = await context.guest(getVm(context.db, id), gone.signal);
      const relay = await guest.connectSocket(socket.guestPath, { signal: gone.signal });
      const reason = readReason(relay);
      relay.stdio.on('error', () => undefined);
      client.pipe(relay.stdio);
      relay.stdio.pipe(client);
      client.resume();
      const { code } = await relay.exit;
      if (code !== 0) this.#say(id, socket, reason() || 'the relay in the guest was ended');
    } catch (error) {
      if (!gone.signal.aborted) this.#say(id, socket, errorText(error));
    }
    // What the guest said goes out first. A guest's server that has closed reads nothing any more, either.
    client.destroySoon();
  }

  #say(id: string, { hostPath, guestPath }: PublishedSocket, why: string): void {
    this.#context().log('warn', `a connection to "${hostPath}" did not reach "${guestPath}": ${why}`, {
      vm: id,
    });
  }
}

function isSame(one: PublishedSocket, other: PublishedSocket): boolean {
  return one.hostPath === other.hostPath && one.guestPath === other.guestPath;
}

function shut({ server, carried }: OpenSocket): void {
  server.close();
  for (const gone of carried) gone.abort();
}

/** For our own user alone; so is the directory, from before anybody listens there. */
async function listen(server: Server, path: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen(path, resolve);
  await promise;
  server.off('error', reject);
  // Not by the mask of the process: threads of it are making other files meanwhile.
  await chmod(path, 0o600);
}

function readReason(relay: GuestProcess): () => string {
  let text = '';
  relay.stderr.on('data', (chunk: Buffer) => {
    if (text.length < maxReasonBytes) text += chunk.toString('utf8');
  });
  return () => {
    const line = text.slice(0, maxReasonBytes);
    // eslint-disable-next-line no-control-regex -- a guest's words, for a log
    return line.replace(/[\x00-\x1f\x7f]+/g, ' ').trim();
  };
}
