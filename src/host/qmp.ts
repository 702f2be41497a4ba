import { connect, type Socket } from 'node:net';
import { BangerError } from '../errors.ts';

/** Longest message believed from QEMU. */
const maxMessageBytes = 4 * 1024 * 1024;
const replyTimeoutMs = 10_000;

interface Reply {
  readonly return?: unknown;
  readonly error?: { readonly desc?: string };
  readonly event?: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

/**
 * A connection to QEMU's control socket: QMP, one JSON object per line
 * (https://www.qemu.org/docs/master/interop/qmp-spec.html). QEMU serves one client at a time.
 */
export class QmpClient {
  readonly #socket: Socket;
  readonly #waiting: { resolve: (value: unknown) => void; reject: (error: Error) => void }[] = [];
  readonly #eventListeners = new Set<(event: string, data: Readonly<Record<string, unknown>>) => void>();
  #pending = '';
  /** Settles when QEMU has closed the connection, which it does when it ends */
  readonly closed: Promise<void>;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => this.#receive(text));
    socket.on('error', () => undefined);
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        const gone = new BangerError('command_failed', 'QEMU closed its control connection');
        for (const waiter of this.#waiting.splice(0)) waiter.reject(gone);
        resolve();
      });
    });
  }

  static async connect(path: string): Promise<QmpClient> {
    const socket = connect(path);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    const client = new QmpClient(socket);
    await client.execute('qmp_capabilities');
    return client;
  }

  onEvent(listener: (event: string, data: Readonly<Record<string, unknown>>) => void): void {
    this.#eventListeners.add(listener);
  }

  /** Runs a command; commands are answered in order. Throws `timeout` when QEMU does not answer within 10 s. */
  execute(command: string, parameters?: Readonly<Record<string, unknown>>): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(
          new BangerError('timeout', `QEMU did not answer "${command}" within ${replyTimeoutMs / 1000} s`),
        );
        this.#socket.destroy();
      }, replyTimeoutMs);
      const settle =
        <T>(next: (value: T) => void) =>
        (value: T): void => {
          clearTimeout(timer);
          next(value);
        };
      this.#waiting.push({ resolve: settle(resolve), reject: settle(reject) });
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: parameters })}\n`);
    });
  }

  close(): void {
    this.#socket.destroy();
  }

  #receive(text: string): void {
    this.#pending += text;
    if (this.#pending.length > maxMessageBytes) return void this.#socket.destroy();
    const lines = this.#pending.split('\n');
    this.#pending = lines.pop() ?? '';
    for (const line of lines) if (line.trim() !== '') this.#dispatch(JSON.parse(line) as Reply);
  }

  #dispatch(reply: Reply): void {
    if (reply.event !== undefined) {
      for (const listener of this.#eventListeners) listener(reply.event, reply.data ?? {});
    } else if (reply.error) {
      this.#waiting
        .shift()
        ?.reject(new BangerError('command_failed', `QEMU: ${reply.error.desc ?? 'unknown error'}`));
    } else if ('return' in reply) {
      this.#waiting.shift()?.resolve(reply.return);
    }
  }
}
