import { createSocket, type RemoteInfo, type Socket as UdpSocket } from 'node:dgram';
import { createServer, isIPv6, type Server, type Socket } from 'node:net';
import { errnoOf } from '../../../errors.ts';
import { answerMessage } from './answer.ts';
import type { Forwarder } from './forwarder.ts';
import type { Zone } from './zone.ts';

/** Where a name server listens, UDP and TCP. */
export interface NameServerInput {
  readonly address: string;
  readonly port: number;
  /** What is true now */
  readonly zone: () => Zone;
  /** Answers what is not ours; absent: it is refused */
  readonly forwarder?: Forwarder;
  /** Whether it does for who asks from an address; absent: for all */
  readonly mayForward?: (client: string) => boolean;
}

/** Longer questions there are none. */
const maxTcpQueryBytes = 4096;
const maxTcpClients = 64;
const tcpIdleMs = 10_000;
/** What a client may leave unread before it is hung up on. */
const maxUnreadBytes = 256 * 1024;
/** Ports that the system gives may be free for UDP alone: then others are tried. */
const portAttempts = 10;

/** A name server on one address. Whatever clients send, it goes on: nothing they do is an error of ours. */
export class NameServer {
  readonly #input: NameServerInput;
  readonly #udp: UdpSocket;
  readonly #tcp: Server;
  readonly #clients = new Set<Socket>();
  readonly port: number;

  private constructor(input: NameServerInput, sockets: { udp: UdpSocket; tcp: Server; port: number }) {
    this.#input = input;
    this.#udp = sockets.udp;
    this.#tcp = sockets.tcp;
    this.port = sockets.port;
    this.#udp.on('message', (message, from) => void this.#answerDatagram(message, from));
    // A client that is gone already: nobody waits for the answer.
    this.#udp.on('error', () => undefined);
    this.#tcp.on('connection', (socket) => this.#serve(socket));
    this.#tcp.on('error', () => undefined);
  }

  /** Listens. Throws what the system says (`EADDRINUSE`, `EACCES`, `EADDRNOTAVAIL`) with nothing left open. */
  static async listen(input: NameServerInput): Promise<NameServer> {
    for (let attempt = 1; ; attempt++) {
      const udp = createSocket(isIPv6(input.address) ? 'udp6' : 'udp4');
      try {
        const port = await bindUdp(udp, input);
        const tcp = await bindTcp({ ...input, port });
        return new NameServer(input, { udp, tcp, port });
      } catch (error) {
        udp.close();
        const isBadLuck = input.port === 0 && errnoOf(error) === 'EADDRINUSE';
        if (!isBadLuck || attempt === portAttempts) throw error;
      }
    }
  }

  get address(): string {
    return this.#input.address;
  }

  close(): void {
    this.#udp.close();
    this.#tcp.close();
    for (const client of this.#clients) client.destroy();
    this.#input.forwarder?.close();
  }

  /** Never rejects: whoever gets no answer asks again, or somebody else. */
  async #answerDatagram(message: Buffer, from: RemoteInfo): Promise<void> {
    try {
      const answer = await this.#answer(message, 'udp', from.address);
      if (!answer) return;
      this.#udp.send(answer, from.port, from.address, () => undefined);
    } catch {
      // Closed meanwhile, a sender's port of 0, or what there is to know cannot be read.
    }
  }

  async #answer(message: Buffer, transport: 'udp' | 'tcp', client: string): Promise<Buffer | undefined> {
    const outcome = answerMessage(message, this.#input.zone(), transport);
    if (outcome.kind === 'silence') return undefined;
    if (outcome.kind === 'answer') return outcome.message;
    const { forwarder, mayForward = () => true } = this.#input;
    return forwarder && mayForward(client)
      ? forwarder.ask({ message, query: outcome.query, transport })
      : outcome.refusal;
  }

  /** Messages over TCP are led by their length. They are answered one after the other. */
  #serve(socket: Socket): void {
    if (this.#clients.size >= maxTcpClients) return void socket.destroy();
    this.#clients.add(socket);
    const client = socket.remoteAddress ?? '';
    socket.on('error', () => undefined);
    socket.on('close', () => this.#clients.delete(socket));
    socket.setTimeout(tcpIdleMs, () => socket.destroy());
    let pending = Buffer.alloc(0);
    let answering = Promise.resolve();
    const take = async (message: Buffer): Promise<void> => {
      const answer = await this.#answer(message, 'tcp', client);
      if (!answer || socket.destroyed) return void socket.destroy();
      const length = Buffer.alloc(2);
      length.writeUInt16BE(answer.length);
      socket.write(Buffer.concat([length, answer]));
      if (socket.writableLength > maxUnreadBytes) socket.destroy();
    };
    socket.on('data', (chunk: Buffer) => {
      // One piece at a time: whoever sends faster than it is answered waits.
      socket.pause();
      pending = Buffer.concat([pending, chunk]);
      answering = answering.then(async () => {
        while (pending.length >= 2 && !socket.destroyed) {
          const length = pending.readUInt16BE(0);
          if (length > maxTcpQueryBytes) return void socket.destroy();
          if (pending.length < 2 + length) break;
          const message = pending.subarray(2, 2 + length);
          pending = pending.subarray(2 + length);
          await take(message);
        }
        socket.resume();
      });
      answering.catch(() => socket.destroy());
    });
  }
}

function bindUdp(socket: UdpSocket, { address, port }: NameServerInput): Promise<number> {
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.bind({ address, port, exclusive: true }, () => {
      socket.off('error', reject);
      resolve(socket.address().port);
    });
  });
}

function bindTcp({ address, port }: NameServerInput): Promise<Server> {
  const server = createServer();
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: address, port, exclusive: true }, () => {
      server.off('error', reject);
      resolve(server);
    });
  });
}
