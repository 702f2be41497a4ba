import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { connect, isIPv6 } from 'node:net';
import { randomInt } from 'node:crypto';
import { failure, type Transport } from './answer.ts';
import type { Query } from './wire.ts';

export interface Upstream {
  readonly address: string;
  readonly port: number;
}

export interface ForwarderInput {
  /** Asked in order, for each question anew: the host may have changed networks */
  readonly upstreams: () => readonly Upstream[] | Promise<readonly Upstream[]>;
  /** How long one of them may take, in milliseconds */
  readonly timeoutMs?: number;
  /** Questions under way; more are answered with a failure */
  readonly maxPending?: number;
}

interface Asked {
  readonly message: Buffer;
  readonly query: Query;
  readonly transport: Transport;
}

const defaultTimeoutMs = 3_000;
const defaultMaxPending = 256;
const maxUpstreams = 3;

/**
 * Hands questions of guests on to the name servers that the host uses. An answer is taken only from the server that was
 * asked, over a socket of its own, with the id and the question that were sent.
 */
export class Forwarder {
  readonly #input: ForwarderInput;
  readonly #closing = new AbortController();
  #pending = 0;

  constructor(input: ForwarderInput) {
    this.#input = input;
  }

  /** The answer, for the client; one that says so when nobody had any. */
  async ask({ message, query, transport }: Asked): Promise<Buffer> {
    const { timeoutMs = defaultTimeoutMs, maxPending = defaultMaxPending } = this.#input;
    if (this.#pending >= maxPending) return failure(query, transport);
    this.#pending++;
    try {
      const upstreams = await this.#input.upstreams();
      for (const upstream of upstreams.slice(0, maxUpstreams)) {
        const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(timeoutMs)]);
        const answer = await askOne({ message, query, transport }, upstream, signal).catch(() => undefined);
        if (answer) return answer;
      }
      return failure(query, transport);
    } catch {
      return failure(query, transport);
    } finally {
      this.#pending--;
    }
  }

  close(): void {
    this.#closing.abort();
  }
}

/** Under an id of ours, which nobody else knows. */
async function askOne(
  { message, query, transport }: Asked,
  upstream: Upstream,
  signal: AbortSignal,
): Promise<Buffer> {
  const id = randomInt(0x10000);
  const sent = Buffer.from(message);
  sent.writeUInt16BE(id, 0);
  const isAnswer = (received: Buffer): boolean =>
    received.length >= 12 + query.question.bytes.length &&
    received.readUInt16BE(0) === id &&
    (received[2]! & 0x80) !== 0 &&
    received.subarray(12, 12 + query.question.bytes.length).equals(query.question.bytes);
  const answer = await (transport === 'udp' ? askByUdp : askByTcp)({ sent, upstream, signal, isAnswer });
  const returned = Buffer.from(answer);
  returned.writeUInt16BE(query.id, 0);
  return returned;
}

interface Exchange {
  readonly sent: Buffer;
  readonly upstream: Upstream;
  readonly signal: AbortSignal;
  readonly isAnswer: (received: Buffer) => boolean;
}

function askByUdp({ sent, upstream, signal, isAnswer }: Exchange): Promise<Buffer> {
  const socket: UdpSocket = createSocket(isIPv6(upstream.address) ? 'udp6' : 'udp4');
  return new Promise<Buffer>((resolve, reject) => {
    const fail = (): void => reject(new Error('no answer'));
    if (signal.aborted) return fail();
    signal.addEventListener('abort', fail, { once: true });
    socket.on('error', fail);
    socket.on('message', (received) => {
      if (isAnswer(received)) resolve(received);
    });
    // Connected, so that the kernel takes datagrams of this server alone. One without a route cannot be.
    // That is told to whoever is called back, of which Node's types do not know.
    const send = (unconnected?: Error): void => {
      if (unconnected || signal.aborted) return fail();
      socket.send(sent, (unsent) => unsent && fail());
    };
    socket.connect(upstream.port, upstream.address, send);
  }).finally(() => socket.close());
}

function askByTcp({ sent, upstream, signal, isAnswer }: Exchange): Promise<Buffer> {
  const socket = connect({ host: upstream.address, port: upstream.port });
  return new Promise<Buffer>((resolve, reject) => {
    const fail = (): void => reject(new Error('no answer'));
    if (signal.aborted) return fail();
    signal.addEventListener('abort', fail, { once: true });
    socket.on('error', fail);
    socket.on('close', fail);
    let received = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      // A length of two bytes bounds it.
      received = Buffer.concat([received, chunk]);
      if (received.length < 2 || received.length < 2 + received.readUInt16BE(0)) return;
      const answer = received.subarray(2, 2 + received.readUInt16BE(0));
      if (isAnswer(answer)) resolve(answer);
      else fail();
    });
    const length = Buffer.alloc(2);
    length.writeUInt16BE(sent.length);
    socket.write(Buffer.concat([length, sent]));
  }).finally(() => socket.destroy());
}
