import { abortError, BangerError } from '../errors.ts';
import type { ClientKey } from '../host/keys.ts';
import { monotonicMs } from '../host/clock.ts';
import { requireKnownProtocol } from '../host/guest-protocol.ts';
import { SshConnection } from '../host/ssh.ts';
import type { Vm } from '../state/vms.ts';
import { ConnectionPool, type Lease } from './connection-pool.ts';
import type { Guest } from './guest.ts';
import type { HandleCache, Handles } from './handles.ts';
import { askProtocol, sshGuest, withWayOut } from './ssh-guest.ts';

/** The port of the guest's SSH service: not 22, which belongs to the image's own. See guest/init. */
export const guestSshPort = 1022;

/** Where a guest's SSH service is. */
type SshWay = Pick<Handles, 'sshHost' | 'sshPort'>;

/** Open SSH connections to running VMs, made when first needed and again after they were lost. */
export class GuestPool {
  readonly #pools = new Map<string, ConnectionPool>();
  readonly #uses = new Map<string, { running: number; lastUsedMs: number }>();
  readonly #protocols = new Map<string, number>();
  /** Connections beside the pools: they lead to somebody's SSH agent and end with its program, or run none */
  readonly #apartOnes = new Map<string, Set<SshConnection>>();
  readonly #handles: HandleCache;
  readonly #key: () => Promise<ClientKey>;
  readonly #isPaused: (id: string) => boolean;

  constructor(
    handles: HandleCache,
    key: () => Promise<ClientKey>,
    isPaused: (id: string) => boolean = () => false,
  ) {
    this.#handles = handles;
    this.#key = key;
    this.#isPaused = isPaused;
  }

  /** The way into a running VM. Throws `invalid_state` when it is not running, `guest_unreachable` when it does not answer. */
  async guest(
    vm: Vm,
    signal: AbortSignal,
    /** `isWatching`: looking at a VM is not using it */
    options: { readonly isWatching?: boolean } = {},
  ): Promise<Guest> {
    const handles = this.#handles.get(vm.id);
    if (!handles) throw notRunning(vm);
    // Before anything is begun that nobody would wait for.
    if (signal.aborted) throw abortError(signal);
    let pool = this.#pools.get(vm.id);
    if (!pool) {
      pool = new ConnectionPool(() => this.#dial(vm, handles));
      this.#pools.set(vm.id, pool);
    }
    await orAborted(pool.warm(), signal).catch((error: unknown) => {
      throw withWayOut(error, vm.name);
    });
    const lease = pool;
    return sshGuest({
      name: vm.name,
      takeWithAgent: async (agentSocket) => this.#inUse(vm.id, await this.#apart(vm, handles, agentSocket)),
      take: options.isWatching ? () => lease.take() : async () => this.#inUse(vm.id, await lease.take()),
      protocol: async () => {
        const protocol = handles.guestProtocol ?? (await this.#askedProtocol(vm.id, lease));
        requireKnownProtocol(protocol, vm.name);
        return protocol;
      },
    });
  }

  /** What a guest's part says that it speaks: asked once, for a VM whose start nobody remembers. */
  async #askedProtocol(id: string, pool: ConnectionPool): Promise<number> {
    const known = this.#protocols.get(id) ?? (await askProtocol(await pool.take()));
    if (this.#pools.get(id) === pool) this.#protocols.set(id, known);
    return known;
  }

  /** Whether a program runs in a VM on somebody's behalf, and when (monotonic clock) one did last. */
  activity(id: string): { readonly isBusy: boolean; readonly lastUsedMs: number } {
    const use = this.#uses.get(id);
    return { isBusy: (use?.running ?? 0) > 0, lastUsedMs: use?.lastUsedMs ?? 0 };
  }

  #inUse(id: string, lease: Lease): Lease {
    const use = this.#uses.get(id) ?? { running: 0, lastUsedMs: 0 };
    this.#uses.set(id, use);
    use.running++;
    let isReleased = false;
    const release = (isReusable: boolean): void => {
      if (!isReleased) {
        isReleased = true;
        use.running--;
        use.lastUsedMs = monotonicMs();
      }
      lease.release(isReusable);
    };
    return { connection: lease.connection, release };
  }

  /** Closes a VM's connections, because its VMM is gone or going. */
  drop(id: string): void {
    this.#pools.get(id)?.close();
    this.#pools.delete(id);
    for (const connection of this.#apartOnes.get(id) ?? []) connection.close();
    this.#apartOnes.delete(id);
    this.#uses.delete(id);
    this.#protocols.delete(id);
  }

  closeAll(): void {
    for (const id of [...this.#pools.keys()]) this.drop(id);
  }

  /** A connection of one's own to a running VM, for what is no program. It is closed with all others. */
  async connect(vm: Vm): Promise<SshConnection> {
    const handles = this.#handles.get(vm.id);
    if (!handles) throw notRunning(vm);
    return (await this.#apart(vm, handles)).connection;
  }

  async #apart(vm: Vm, way: SshWay, agentSocket?: string): Promise<Lease> {
    const connection = await this.#dial(vm, way, agentSocket);
    const open = this.#apartOnes.get(vm.id) ?? new Set();
    this.#apartOnes.set(vm.id, open.add(connection));
    void connection.closed.then(() => open.delete(connection));
    return { connection, release: () => connection.close() };
  }

  async #dial(vm: Vm, way: SshWay, agentSocket?: string): Promise<SshConnection> {
    const target = {
      host: way.sshHost ?? '127.0.0.1',
      port: way.sshPort,
      user: 'root',
      key: await this.#key(),
      hostKey: vm.hostPublicKey,
      isPaused: () => this.#isPaused(vm.id),
      agentSocket,
    };
    // Under its own time limit only: whoever asked first may give up, and others wait for the same connection.
    return SshConnection.connect(target, new AbortController().signal);
  }
}

function notRunning({ name }: Vm): BangerError {
  return new BangerError('invalid_state', `VM "${name}" is not running`, {
    hint: `Start it with: banger vm start ${name}`,
  });
}

/** `signal` has not fired yet. */
async function orAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(abortError(signal));
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
