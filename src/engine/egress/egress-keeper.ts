import { errorText } from '../../errors.ts';
import type { SshConnection } from '../../host/ssh.ts';
import { egressWords, type EgressPolicy } from '../../state/egress.ts';
import { findVm, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { withoutLocks } from '../locks.ts';
import type { EgressEntry } from './egress-log.ts';
import { EgressGate, hostEgressWays, type EgressWays } from './gate.ts';
import { proxyPort } from './guest-egress.ts';
import type { EgressProxy } from './proxy.ts';

/** After the way to a guest was lost, it is made again after this long, and then less and less often. */
const firstRetryMs = 500;
const lastRetryMs = 10_000;

interface Way {
  readonly vm: Vm;
  readonly gate: EgressGate;
  readonly proxy: EgressProxy;
  connection?: SshConnection;
  /** Why there is none */
  problem?: string;
  timer?: NodeJS.Timeout;
  isClosed: boolean;
}

/** Whether a guest's way out through the proxy is there. */
export interface WayState {
  readonly isUp: boolean;
  readonly problem?: string;
}

/**
 * Keeps the proxies of running VMs that may not reach everything: one each, which its guest finds on its own loopback,
 * by an SSH connection that the engine keeps open for it. While there is no such connection nothing gets out.
 */
export class EgressKeeper {
  readonly #ways = new Map<string, Way>();
  readonly #context: () => EngineContext;
  readonly #reach: EgressWays;
  #isClosed = false;

  constructor(context: () => EngineContext, reach: EgressWays = hostEgressWays()) {
    this.#context = context;
    this.#reach = reach;
  }

  /**
   * Makes it so for a VM that runs: a proxy by its policy, or none. A policy that changed holds for what is asked for
   * from now on, and connections under the old one end. Throws `guest_unreachable` when the guest cannot be given its
   * way now; it is tried again.
   */
  async match(vm: Vm): Promise<void> {
    if (vm.egress.kind === 'all' || vm.network === 'none') return this.shut(vm.id);
    // Node's HTTP comes along with it, which engines without such VMs do without.
    const proxies = await import('./proxy.ts');
    const way = this.#ways.get(vm.id);
    if (!way) return this.#open(vm, vm.egress, proxies);
    if (String(egressWords(way.gate.policy)) === String(egressWords(vm.egress))) return;
    way.gate.policy = vm.egress;
    way.proxy.closeAll();
  }

  drop(id: string): void {
    const way = this.#ways.get(id);
    if (!way) return;
    this.#ways.delete(id);
    way.isClosed = true;
    clearTimeout(way.timer);
    way.proxy.closeAll();
    way.connection?.close();
  }

  /** As `drop`, for a guest that runs on: its port is free afterwards, also when its network goes. */
  async shut(id: string): Promise<void> {
    const connection = this.#ways.get(id)?.connection;
    const way = this.#ways.get(id);
    if (way) way.isClosed = true;
    await connection?.stopListening(proxyPort);
    if (this.#ways.get(id) === way) this.drop(id);
  }

  close(): void {
    this.#isClosed = true;
    for (const id of [...this.#ways.keys()]) this.drop(id);
  }

  log(id: string): readonly EgressEntry[] {
    return this.#ways.get(id)?.gate.log.list() ?? [];
  }

  /** Undefined for a VM that has no proxy. */
  state(id: string): WayState | undefined {
    const way = this.#ways.get(id);
    return way && { isUp: way.connection?.isOpen ?? false, problem: way.problem };
  }

  async #open(vm: Vm, policy: EgressPolicy, proxies: { EgressProxy: typeof EgressProxy }): Promise<void> {
    const gate = new EgressGate(policy, this.#reach);
    const nameOf = (): string => findVm(this.#context().db, vm.id)?.name ?? vm.name;
    const way: Way = { vm, gate, proxy: new proxies.EgressProxy(gate, nameOf), isClosed: this.#isClosed };
    this.#ways.set(vm.id, way);
    try {
      await this.#connect(way);
    } catch (error) {
      this.#retry(way, firstRetryMs);
      throw error;
    }
  }

  async #connect(way: Way): Promise<void> {
    try {
      const connection = await this.#context().guests.connect(way.vm);
      await connection
        .listenInGuest(proxyPort, (stream) => way.proxy.serve(stream))
        .catch((error: unknown) => {
          connection.close();
          throw error;
        });
      if (way.isClosed) return connection.close();
      way.connection = connection;
      way.problem = undefined;
      void connection.closed.then(() => this.#retry(way, firstRetryMs));
    } catch (error) {
      way.problem = errorText(error);
      throw error;
    }
  }

  #retry(way: Way, afterMs: number): void {
    if (way.isClosed) return;
    way.proxy.closeAll();
    way.timer = setTimeout(() => {
      if (way.isClosed) return;
      // A VM that has ended, or is another start of it, has no use for this one.
      if (!this.#context().handles.get(way.vm.id)) return this.drop(way.vm.id);
      void withoutLocks(() => this.#connect(way)).catch((error: unknown) => {
        this.#context().log('warn', `egress: the guest's way out is not there: ${errorText(error)}`, {
          vm: way.vm.id,
        });
        this.#retry(way, Math.min(afterMs * 2, lastRetryMs));
      });
    }, afterMs);
  }
}
