import type { RemoteInfo, Socket } from 'node:dgram';
import { errorText } from '../../errors.ts';
import { monotonicMs } from '../../host/clock.ts';
import { openUdpPort } from '../../host/ports.ts';
import type { PublishedPort } from '../../state/ports.ts';
import type { GuestProcess } from '../guest.ts';
import { datagramFrame, DatagramFrames, maxOthers, overFrame } from './datagram-frames.ts';

/** After this long without a datagram, whoever sent some is forgotten; as docker has it. */
const idleMs = 90_000;
const lookMs = 10_000;
/** When so few more can be known, whoever was silent for the longest is forgotten. */
const spareOthers = 16;
/** What waits for a guest, or for a network of the host, beyond this is lost, as datagrams are. */
const maxWaitingBytes = 1024 * 1024;
/** A guest that could not be reached is left alone for so long. */
const retryMs = 1_000;
/** That it was not reached is said this often at most. */
const sayingMs = 60_000;
/** What a guest says about a port that it cannot be reached at; beyond this it is not listened to. */
const maxReasonBytes = 1024;

export interface DatagramWays {
  /** Starts the guest's end */
  readonly connect: (signal: AbortSignal) => Promise<GuestProcess>;
  /** Told why datagrams are lost, not for each of them */
  readonly say: (why: string) => void;
}

/** Who sent datagrams to the port, and gets what the guest answers. */
interface Other {
  readonly number: number;
  readonly address: string;
  readonly port: number;
  lastHeardMs: number;
  /** The guest was told to forget it, and has not said yet that it has */
  isGoing: boolean;
}

/**
 * A UDP port of the host that leads into a guest, and answers back out to those who sent something, and nobody else.
 * A program of ours in the guest is there while somebody is known who did.
 */
export class DatagramPort {
  readonly port: PublishedPort;
  readonly #socket: Socket;
  readonly #ways: DatagramWays;
  readonly #closing = new AbortController();
  readonly #byPlace = new Map<string, Other>();
  readonly #byNumber = new Map<number, Other>();
  readonly #free = Array.from({ length: maxOthers }, (_, index) => maxOthers - 1 - index);
  #guest: GuestProcess | undefined;
  #isOpening = false;
  #nextTryMs = 0;
  #nextSayingMs = 0;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #timer: NodeJS.Timeout | undefined;

  private constructor(port: PublishedPort, socket: Socket, ways: DatagramWays) {
    this.port = port;
    this.#socket = socket;
    this.#ways = ways;
    socket.on('message', (datagram, from) => this.#take(datagram, from));
    // Of one that was sent: nobody was there.
    socket.on('error', () => undefined);
  }

  /** Throws `busy` when the port is taken. */
  static async open(port: PublishedPort, ways: DatagramWays): Promise<DatagramPort> {
    return new DatagramPort(port, await openUdpPort({ bind: port.bind, port: port.hostPort }), ways);
  }

  close(): void {
    this.#closing.abort();
    clearInterval(this.#timer);
    this.#guest?.close();
    this.#socket.close();
  }

  #take(datagram: Buffer, from: RemoteInfo): void {
    if (!this.#guest && !this.#isOpening) {
      if (monotonicMs() < this.#nextTryMs) return;
      void this.#open();
    }
    const other = this.#byPlace.get(placeOf(from)) ?? this.#meet(from);
    if (!other) return;
    other.lastHeardMs = monotonicMs();
    if (this.#waitingBytes + (this.#guest?.stdio.writableLength ?? 0) < maxWaitingBytes)
      this.#send(...datagramFrame(other.number, datagram));
  }

  #meet({ address, port }: RemoteInfo): Other | undefined {
    if (this.#free.length < spareOthers) this.#forgetIdlest();
    const number = this.#free.pop();
    if (number === undefined) return undefined;
    const other = { number, address, port, lastHeardMs: 0, isGoing: false };
    this.#byPlace.set(placeOf(other), other);
    this.#byNumber.set(number, other);
    this.#timer ??= setInterval(() => this.#forgetIdle(), lookMs).unref();
    return other;
  }

  #forgetIdlest(): void {
    const known = [...this.#byPlace.values()];
    const idlest = known.reduce((one, next) => (next.lastHeardMs < one.lastHeardMs ? next : one), known[0]!);
    if (known.length > 0) this.#forget(idlest);
  }

  #forgetIdle(): void {
    const longAgo = monotonicMs() - idleMs;
    for (const other of this.#byPlace.values()) if (other.lastHeardMs <= longAgo) this.#forget(other);
    if (this.#byNumber.size === 0) this.#rest();
  }

  /** Its number is nobody else's before the guest has said its last about it. */
  #forget(other: Other): void {
    this.#byPlace.delete(placeOf(other));
    other.isGoing = true;
    this.#send(overFrame(other.number));
  }

  /** Nobody is known any more: the guest's end goes, until somebody comes. */
  #rest(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#guest?.stdio.end();
    this.#guest = undefined;
  }

  async #open(): Promise<void> {
    this.#isOpening = true;
    try {
      const guest = await this.#ways.connect(this.#closing.signal);
      if (this.#closing.signal.aborted) return guest.close();
      this.#guest = guest;
      this.#listen(guest);
      this.#flush();
    } catch (error) {
      this.#lose(errorText(error));
    } finally {
      this.#isOpening = false;
    }
  }

  #listen(guest: GuestProcess): void {
    const frames = new DatagramFrames((number, datagram) => this.#answer(number, datagram));
    let reason = '';
    guest.stderr.on('data', (chunk: Buffer) => {
      reason = (reason + chunk.toString('latin1')).slice(0, maxReasonBytes);
    });
    guest.stdio.on('error', () => undefined);
    guest.stdio.on('data', (chunk: Buffer) => {
      try {
        frames.push(chunk);
      } catch (error) {
        reason = errorText(error);
        guest.close();
      }
    });
    const onEnd = (why: string): void => {
      if (this.#guest === guest) this.#lose(why);
    };
    guest.exit.then(
      // eslint-disable-next-line no-control-regex -- a guest's words, for a log
      () => onEnd(reason.replace(/[\x00-\x1f\x7f]+/g, ' ').trim() || 'the relay in the guest was ended'),
      (error: unknown) => onEnd(errorText(error)),
    );
  }

  #answer(number: number, datagram: Buffer | 'over'): void {
    const other = this.#byNumber.get(number);
    if (!other) return;
    if (datagram === 'over') {
      if (!other.isGoing) return;
      this.#byNumber.delete(number);
      this.#free.push(number);
      return;
    }
    if (other.isGoing) return;
    other.lastHeardMs = monotonicMs();
    if (this.#socket.getSendQueueSize() > maxWaitingBytes) return;
    // That it could not be sent is for the network to know.
    this.#socket.send(datagram, other.port, other.address, () => undefined);
  }

  /** The guest's end is gone, and with it what it knew. Whoever sends something is known again. */
  #lose(why: string): void {
    this.#guest = undefined;
    this.#nextTryMs = monotonicMs() + retryMs;
    for (const { number } of this.#byNumber.values()) this.#free.push(number);
    this.#byNumber.clear();
    this.#byPlace.clear();
    [this.#waiting, this.#waitingBytes] = [[], 0];
    if (this.#closing.signal.aborted || monotonicMs() < this.#nextSayingMs) return;
    this.#nextSayingMs = monotonicMs() + sayingMs;
    this.#ways.say(why);
  }

  /** What comes together goes together: a piece of SSH's for each would cost more than what is in it. */
  #send(...bytes: readonly Buffer[]): void {
    if (this.#waiting.length === 0 && this.#guest) setImmediate(() => this.#flush());
    this.#waiting.push(...bytes);
    for (const { length } of bytes) this.#waitingBytes += length;
  }

  #flush(): void {
    if (this.#waiting.length === 0 || !this.#guest) return;
    const bytes = Buffer.concat(this.#waiting);
    [this.#waiting, this.#waitingBytes] = [[], 0];
    this.#guest.stdio.write(bytes);
  }
}

function placeOf({ address, port }: { readonly address: string; readonly port: number }): string {
  return `${address}:${port}`;
}
