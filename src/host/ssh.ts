import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import ssh2, { type ClientChannel, type PseudoTtyOptions } from 'ssh2';
import { abortError, BangerError, errorText } from '../errors.ts';
import { giveUpAfter, giveUpOnSilence } from './patience.ts';
import { publicKeyBlob, type ClientKey } from './keys.ts';

export interface SshTarget {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly key: ClientKey;
  /** The only host key accepted, one line in OpenSSH's format */
  readonly hostKey: string;
  /** An SSH agent that programs of this connection may use; it is never used to log in */
  readonly agentSocket?: string;
  /** True while the guest stands still because somebody paused it: its silence means nothing then */
  readonly isPaused?: () => boolean;
}

/** How long a guest may keep us waiting, in milliseconds. */
export interface SshPatience {
  /** Without a word of its, until the handshake is over; one that is slow is given more */
  readonly connectMs: number;
  /** From the request for a program to the word that it was started */
  readonly startMs: number;
  /** A server that does not answer for this long is not one to start another program on */
  readonly settleMs: number;
  /** How often a guest is asked whether it is there still, while a program runs in it and only then */
  readonly pulseMs: number;
  /** How long it may take to answer that. The second time that it does not, it is given up. */
  readonly pulseAnswerMs: number;
}

const defaultPatience: SshPatience = {
  connectMs: 30_000,
  startMs: 20_000,
  settleMs: 10_000,
  pulseMs: 15_000,
  pulseAnswerMs: 30_000,
};
const maxMissedPulses = 2;
const stopListeningMs = 2_000;

/**
 * An open SSH connection to a guest. Channels are opened on it without another handshake, which under
 * emulation is most of the cost of a short command.
 */
export class SshConnection {
  readonly #client: ssh2.Client;
  readonly #patience: SshPatience;
  readonly #isPaused: () => boolean;
  #isOpen = true;
  #failure: string | undefined;
  /** Settles when the connection has ended, for whatever reason */
  readonly closed: Promise<void>;

  private constructor(client: ssh2.Client, patience: SshPatience, isPaused: () => boolean) {
    this.#client = client;
    this.#patience = patience;
    this.#isPaused = isPaused;
    // Errors come more than once, and late ones after everybody has turned away; each is followed by 'close'.
    client.on('error', (error) => {
      this.#failure ??= error.message;
    });
    this.closed = new Promise((resolve) => {
      client.once('close', () => {
        this.#isOpen = false;
        resolve();
      });
    });
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** What people are told when a channel ended before its program did. */
  lostError(): BangerError {
    const what = this.#isOpen
      ? 'The guest closed a channel without saying how its program ended'
      : 'The connection to the guest was lost';
    return new BangerError('guest_unreachable', this.#failure ? `${what}: ${this.#failure}` : what);
  }

  /** Connects with strict host key checking. Throws `guest_unreachable` when that does not work. */
  static async connect(
    target: SshTarget,
    signal: AbortSignal,
    patience = defaultPatience,
  ): Promise<SshConnection> {
    const client = new ssh2.Client();
    const expected = publicKeyBlob(target.hostKey);
    const connection = new SshConnection(client, patience, target.isPaused ?? (() => false));
    // Ciphers in JavaScript send a packet in several writes: with Nagle's algorithm each would wait for an ACK.
    client.on('connect', () => client.setNoDelay(true));
    const socket = new Socket();
    const takeBack = giveUpOnSilence(
      patience.connectMs,
      () => socket.bytesRead,
      () => client.emit('error', new Error(`no handshake, and silence for ${patience.connectMs / 1000} s`)),
    );
    try {
      await new Promise<void>((resolve, reject) => {
        if (signal.aborted) throw abortError(signal);
        signal.addEventListener('abort', () => reject(abortError(signal)), { once: true });
        client.once('ready', resolve);
        client.once('error', reject);
        client.once('close', () => reject(new Error('the guest closed the connection')));
        client.connect({
          sock: socket.connect({ host: target.host, port: target.port }),
          username: target.user,
          privateKey: target.key.privatePem,
          authHandler: ['publickey'],
          agent: target.agentSocket,
          agentForward: target.agentSocket !== undefined,
          // Its own timer would fire after a suspension before anything was read.
          readyTimeout: 0,
          // Set to the one algorithm each that our guest's server was made for: nothing to negotiate down to.
          algorithms: { kex: ['curve25519-sha256'], serverHostKey: ['ssh-ed25519'], compress: ['none'] },
          hostVerifier: (key: Buffer) => key.equals(expected),
        });
      });
    } catch (error) {
      client.destroy();
      if (error instanceof BangerError) throw error;
      throw new BangerError('guest_unreachable', `The guest does not answer over SSH: ${errorText(error)}`, {
        cause: error,
      });
    } finally {
      takeBack();
    }
    return connection;
  }

  /**
   * Runs a command line on the guest's side and returns what `attach` makes of the channel. It is called before
   * anything else is read: a short program's end may have arrived together with the word that it was started.
   *
   * A program may be silent for as long as it likes, but a guest that is silent altogether is given up, and the
   * connection closed: `guest_unreachable`.
   */
  exec<T>(
    command: string,
    terminal: PseudoTtyOptions | undefined,
    attach: (channel: ClientChannel) => T,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      const { startMs } = this.#patience;
      const giveUp = (): void => this.#giveUp(`it did not start the program within ${startMs / 1000} s`);
      const takeBack = giveUpAfter(startMs, giveUp);
      const lost = (): void => {
        takeBack();
        reject(this.lostError());
      };
      this.#client.once('close', lost);
      try {
        this.#client.exec(command, terminal ? { pty: terminal } : {}, (error, channel) => {
          takeBack();
          this.#client.off('close', lost);
          if (!error) {
            void this.#watchPulse(channel);
            return resolve(attach(channel));
          }
          reject(
            new BangerError('guest_unreachable', `The guest refused a channel: ${error.message}`, {
              cause: error,
            }),
          );
        });
      } catch (error) {
        // ssh2 throws at once when the socket is gone already.
        takeBack();
        this.#client.off('close', lost);
        reject(
          new BangerError('guest_unreachable', `The connection to the guest was lost: ${errorText(error)}`),
        );
      }
    });
  }

  /**
   * Has the server listen on a port of its loopback, and calls back with each connection to it, for as long as this
   * connection lasts. One that is used for this runs no programs. Throws `guest_unreachable` when it does not.
   */
  async listenInGuest(port: number, onConnection: (stream: Duplex) => void): Promise<void> {
    const address = '127.0.0.1';
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const lost = (): void => reject(this.lostError());
    const takeBack = giveUpAfter(this.#patience.startMs, lost);
    this.#client.once('close', lost);
    this.#client.on('tcp connection', ({ destPort }, accept, refuse) => {
      if (destPort === port) onConnection(accept());
      else refuse();
    });
    try {
      this.#client.forwardIn(address, port, (error) => (error ? reject(error) : resolve()));
      await promise;
    } catch (error) {
      if (error instanceof BangerError) throw error;
      throw new BangerError('guest_unreachable', `Port ${port} of the guest's loopback is taken`, {
        cause: error,
      });
    } finally {
      takeBack();
      this.#client.off('close', lost);
    }
  }

  /** Ends that, so that the port is free at once whatever becomes of this connection. One that is lost has ended it. */
  async stopListening(port: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const takeBack = giveUpAfter(stopListeningMs, resolve);
    void this.closed.then(resolve);
    try {
      if (this.#isOpen) this.#client.unforwardIn('127.0.0.1', port, () => resolve());
      else resolve();
      await promise;
    } finally {
      takeBack();
    }
  }

  /**
   * Waits until the server has dealt with everything before: a question whose answer does not matter (taking back a
   * forwarding that nobody asked for) has been round.
   */
  async settle(timeoutMs = this.#patience.settleMs): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const lost = (): void => reject(this.lostError());
    const takeBack = giveUpAfter(timeoutMs, lost);
    this.#client.once('close', lost);
    try {
      this.#client.unforwardIn('', 1, () => resolve());
      await promise;
    } finally {
      takeBack();
      this.#client.off('close', lost);
    }
  }

  /** Asks now and then whether the guest is there still, until the channel is closed. */
  async #watchPulse(channel: ClientChannel): Promise<void> {
    const closed = new AbortController();
    channel.once('close', () => closed.abort());
    const { pulseMs, pulseAnswerMs } = this.#patience;
    // Once is not enough: a guest that was paused, or we ourselves, may just be waking up.
    for (let missed = 0; missed < maxMissedPulses;) {
      await sleep(pulseMs, undefined, { signal: closed.signal, ref: false }).catch(() => undefined);
      if (closed.signal.aborted || !this.#isOpen) return;
      const isAnswered = await this.settle(pulseAnswerMs).then(
        () => true,
        () => false,
      );
      missed = isAnswered || this.#isPaused() ? 0 : missed + 1;
    }
    if (closed.signal.aborted || !this.#isOpen) return;
    this.#giveUp(`it has not answered for ${Math.round((maxMissedPulses * pulseAnswerMs) / 1000)} s`);
  }

  #giveUp(why: string): void {
    this.#failure ??= why;
    this.#client.destroy();
  }

  /** Sends a signal to a channel's program, such as `INT`. */
  signal(channel: ClientChannel, name: string): void {
    if (channel.writable) return channel.signal(name);
    // ssh2's own method keeps quiet once standard input has ended, though a program may run on for long after that
    // (https://github.com/mscdex/ssh2/blob/v1.17.0/lib/Channel.js); the protocol has no such rule.
    const { _protocol: protocol } = this.#client as unknown as SignalSender;
    const { outgoing } = channel as unknown as { outgoing: { id: number; state: string } };
    if (this.#isOpen && outgoing.state !== 'closed') protocol.signal(outgoing.id, name);
  }

  close(): void {
    this.#client.destroy();
  }
}

/** The part of ssh2's inside that `signal` needs. */
interface SignalSender {
  readonly _protocol: { signal(channel: number, name: string): void };
}
