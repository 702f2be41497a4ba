import { BangerError } from '../errors.ts';
import type { SshConnection } from '../host/ssh.ts';

/** A connection that is somebody's until it is given back. */
export interface Lease {
  readonly connection: SshConnection;
  /** Gives it back. One whose program may still run is closed instead of used again. */
  release(isReusable: boolean): void;
}

/** Connections that stay open without being used. */
const maxIdle = 4;
/** A handshake that fails only after this long says that the guest stands still, not that this attempt went wrong. */
const hopelessMs = 5_000;
/** The guest's SSH service takes five handshakes at a time from one address, and drops more. */
const maxDialing = 3;

/**
 * A VM's SSH connections, each used for one program at a time.
 *
 * They are not shared, though SSH could: when a program ends while another is being started on the same
 * connection, dropbear up to 2024.85 closes the channel of the one that starts, or ends altogether
 * (https://github.com/mkj/dropbear/pull/326). For the same reason a connection settles before it is used again: the
 * server may have told of an end and still be about to act on it. Connections stay open for the next program; a
 * handshake is paid only when more run at once than did before.
 */
export class ConnectionPool {
  readonly #dial: () => Promise<SshConnection>;
  readonly #idle: SshConnection[] = [];
  readonly #busy = new Set<SshConnection>();
  readonly #waiting: PromiseWithResolvers<SshConnection>[] = [];
  #dialing = 0;
  #settling = 0;
  #isClosed = false;

  constructor(dial: () => Promise<SshConnection>) {
    this.#dial = dial;
  }

  /** Makes sure that there is a connection to take. Throws `guest_unreachable` when there cannot be. */
  async warm(): Promise<void> {
    this.#forgetLost();
    if (this.#idle.length > 0) return;
    (await this.take()).release(true);
  }

  /** Takes a connection: one in reserve, else the next that is free or made. */
  async take(): Promise<Lease> {
    this.#forgetLost();
    const connection = this.#idle.pop() ?? (await this.#next());
    this.#busy.add(connection);
    let isReleased = false;
    return {
      connection,
      release: (isReusable) => {
        if (isReleased) return;
        isReleased = true;
        this.#busy.delete(connection);
        if (isReusable && connection.isOpen && !this.#isClosed) void this.#settle(connection);
        else connection.close();
      },
    };
  }

  close(): void {
    this.#isClosed = true;
    for (const connection of [...this.#idle.splice(0), ...this.#busy]) connection.close();
    for (const waiter of this.#waiting.splice(0)) waiter.reject(closedError());
  }

  #next(): Promise<SshConnection> {
    if (this.#isClosed) return Promise.reject(closedError());
    const waiter = Promise.withResolvers<SshConnection>();
    this.#waiting.push(waiter);
    this.#dialMore();
    return waiter.promise;
  }

  #dialMore(): void {
    const wanted = Math.min(this.#waiting.length - this.#settling, maxDialing);
    if (this.#dialing >= wanted || this.#isClosed) return;
    this.#dialing++;
    const began = performance.now();
    void this.#dial()
      .then(
        (connection) => this.#offer(connection),
        (error: unknown) => this.#refuse(error, performance.now() - began),
      )
      .finally(() => {
        this.#dialing--;
        this.#dialMore();
      });
    this.#dialMore();
  }

  async #settle(connection: SshConnection): Promise<void> {
    this.#settling++;
    try {
      await connection.settle();
      this.#settling--;
      this.#offer(connection);
    } catch {
      // Whoever waited for this one gets another.
      this.#settling--;
      connection.close();
      this.#dialMore();
    }
  }

  #offer(connection: SshConnection): void {
    const waiter = this.#waiting.shift();
    if (waiter) waiter.resolve(connection);
    else if (this.#idle.length < maxIdle && !this.#isClosed) this.#idle.push(connection);
    else connection.close();
  }

  /** After a long wait all are told: each would else wait for a failure of its own, one after the other. */
  #refuse(error: unknown, afterMs: number): void {
    const refused = this.#waiting.splice(0, afterMs < hopelessMs ? 1 : this.#waiting.length);
    for (const waiter of refused) waiter.reject(error);
  }

  #forgetLost(): void {
    for (const connection of this.#idle.splice(0)) if (connection.isOpen) this.#idle.push(connection);
  }
}

function closedError(): BangerError {
  return new BangerError(
    'guest_unreachable',
    'The connection to the guest was closed: its VM is stopping or stopped',
  );
}
