import { rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { errorText } from '../../errors.ts';
import { ensureSocketLink, removeSocketLink } from '../../host/socket-link.ts';
import type { PublishedSocket } from '../../state/sockets.ts';
import { getVm, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import type { GuestProcess } from '../guest.ts';
import { withoutLocks } from '../locks.ts';
import { linkOf } from './published-sockets.ts';

/** Connections to one socket at a time. Each has an SSH connection of its own to the guest; others are hung up on. */
const maxConnections = 64;
/** What a guest says about a connection that it could not make; beyond this it is not listened to. */
const maxReasonBytes = 1024;

interface OpenSocket extends PublishedSocket {
  readonly server: Server;
  readonly clients: Set<Socket>;
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

  /** Makes it what the VM's row says. Throws `busy` when a path is taken; those before it are there then. */
  async match(vm: Vm): Promise<void> {
    const open = this.#open.get(vm.id) ?? [];
    this.#open.set(vm.id, open);
    for (const one of [...open]) {
      if (vm.sockets.some((socket) => isSame(socket, one))) continue;
      await this.#take(vm.id, one);
      open.splice(open.indexOf(one), 1);
    }
    for (const socket of vm.sockets) {
      if (!open.some((one) => isSame(one, socket))) open.push(await this.#publish(vm.id, socket));
    }
  }

  /** Takes back a VM's sockets, with the connections to them. */
  async drop(id: string): Promise<void> {
    const open = this.#open.get(id) ?? [];
    this.#open.delete(id);
    for (const one of open) await this.#take(id, one);
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
    const clients = new Set<Socket>();
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
      clients.add(client);
      client.once('close', () => clients.delete(client));
      void withoutLocks(() => this.#carry(id, socket, client));
    });
    server.maxConnections = maxConnections;
    await listen(server, link.target);
    server.on('error', (error) => this.#say(id, socket, errorText(error)));
    try {
      await ensureSocketLink(link);
    } catch (error) {
      server.close();
      throw error;
    }
    return { ...socket, server, clients };
  }

  /** The link first: nobody finds a path that leads nowhere. */
  async #take(id: string, one: OpenSocket): Promise<void> {
    await removeSocketLink(linkOf(this.#context().layout, id, one));
    shut(one);
  }

  /** One connection. What goes wrong can only be told by its end; the log says why. */
  async #carry(id: string, socket: PublishedSocket, client: Socket): Promise<void> {
    const gone = new AbortController();
    client.on('error', () => undefined);
    client.once('close', () => gone.abort());
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

function shut({ server, clients }: OpenSocket): void {
  server.close();
  for (const client of clients) client.destroy();
}

/** For our own user alone, from birth. */
async function listen(server: Server, path: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  const previousMask = process.umask(0o177);
  try {
    server.listen(path, resolve);
  } finally {
    process.umask(previousMask);
  }
  await promise;
  server.off('error', reject);
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
