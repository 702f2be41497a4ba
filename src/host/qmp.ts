import { connect, type Socket } from 'node:net';
import { BangerError } from '../errors.ts';
import { giveUpAfter } from './patience.ts';

/** Longest message believed from QEMU. */
const maxMessageBytes = 4 * 1024 * 1024;
const replyTimeoutMs = 10_000;

interface Reply {
  readonly id?: unknown;
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
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #eventListeners = new Set<(event: string, data: Readonly<Record<string, unknown>>) => void>();
  #pending = '';
  #lastId = 0;
  /** Settles when QEMU has closed the connection, which it does when it ends */
  readonly closed: Promise<void>;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => this.#receive(text));
    socket.on('error', () => undefined);
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        const gone = goneError();
        for (const waiter of this.#waiting.values()) waiter.reject(gone);
        this.#waiting.clear();
        resolve();
      });
    });
  }

  /** A QEMU that takes the connection and says nothing is given up when `signal` is aborted, or after 10 s. */
  static async connect(path: string, signal?: AbortSignal): Promise<QmpClient> {
    const socket = connect(path);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    const client = new QmpClient(socket);
    const giveUp = (): void => client.close();
    signal?.addEventListener('abort', giveUp);
    if (signal?.aborted) giveUp();
    try {
      await client.execute('qmp_capabilities');
      return client;
    } catch (error) {
      client.close();
      throw error;
    } finally {
      signal?.removeEventListener('abort', giveUp);
    }
  }

  onEvent(listener: (event: string, data: Readonly<Record<string, unknown>>) => void): void {
    this.#eventListeners.add(listener);
  }

  /**
   * Runs a command. Throws `timeout` when QEMU does not answer in time (10 s): the connection stays, since a QEMU
   * that is slow, or was stopped together with the host, answers later.
   */
  async execute(
    command: string,
    parameters?: Readonly<Record<string, unknown>>,
    timeoutMs = replyTimeoutMs,
  ): Promise<unknown> {
    if (this.#socket.destroyed) throw goneError();
    const id = ++this.#lastId;
    const waiter = Promise.withResolvers<unknown>();
    this.#waiting.set(id, waiter);
    const takeBack = giveUpAfter(timeoutMs, () =>
      waiter.reject(
        new BangerError('timeout', `QEMU did not answer "${command}" within ${timeoutMs / 1000} s`),
      ),
    );
    try {
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: parameters, id })}\n`);
      return await waiter.promise;
    } finally {
      takeBack();
      this.#waiting.delete(id);
    }
  }

  close(): void {
    this.#socket.destroy();
  }

  #receive(text: string): void {
    this.#pending += text;
    if (this.#pending.length > maxMessageBytes) return void this.#socket.destroy();
    if (!text.includes('\n')) return;
    const lines = this.#pending.split('\n');
    this.#pending = lines.pop() ?? '';
    for (const line of lines) {
      if (line.trim() === '') continue;
      const reply = parseReply(line);
      // Whoever took over a QEMU writes what it likes: that connection ends, and nothing else.
      if (!reply) return void this.#socket.destroy();
      this.#dispatch(reply);
    }
  }

  #dispatch(reply: Reply): void {
    if (reply.event !== undefined) {
      for (const listener of this.#eventListeners) listener(reply.event, reply.data ?? {});
      return;
    }
    // A reply without its command: whoever asked has given up meanwhile.
    const waiter = typeof reply.id === 'number' ? this.#waiting.get(reply.id) : undefined;
    if (reply.error)
      waiter?.reject(new BangerError('command_failed', `QEMU: ${reply.error.desc ?? 'unknown error'}`));
    else if ('return' in reply) waiter?.resolve(reply.return);
  }
}

/** Undefined for what QMP does not have. */
function parseReply(line: string): Reply | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

function goneError(): BangerError {
  return new BangerError('command_failed', 'QEMU closed its control connection');
}
