import { errnoOf, errorText } from '../../errors.ts';
import { gatewayOf, resolverPort } from '../../host/network/plan.ts';
import { listNetworks } from '../../state/networks.ts';
import { listVms } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';

type NamesContext = Pick<EngineContext, 'db' | 'events' | 'log'>;

/** A name server that listens. */
export interface OpenResolver {
  readonly address: string;
  close(): void;
}

/** Begins to answer the guests of one network at an address of the host. */
export type OpenResolverAt = (place: {
  readonly network: string;
  readonly address: string;
  readonly port: number;
}) => Promise<OpenResolver>;

/**
 * Answers the guests of networks whose VMs reach each other: on each network's own address of the host, which nobody
 * else reaches, and only while a VM of it runs. Guests that get no answer ask the host's name servers next.
 */
export class NetworkNames {
  readonly #context: NamesContext;
  readonly #openAt: OpenResolverAt;
  readonly #open = new Map<string, OpenResolver>();
  readonly #problems = new Map<string, string>();
  readonly #unsubscribe: () => void;
  #turn: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(context: NamesContext, openAt?: OpenResolverAt) {
    this.#context = context;
    this.#openAt = openAt ?? ((place) => openGuestResolverLate(context, place));
    this.#unsubscribe = context.events.subscribe(({ type }) => {
      if (type === 'vm') void this.look();
    });
  }

  /** Something about VMs has changed: begins or ceases to listen as needed. Returns when that is done. */
  look(): Promise<void> {
    this.#turn = this.#turn
      .then(() => this.#match())
      .catch((error: unknown) => {
        this.#context.log('warn', `names on networks are not kept up to date: ${errorText(error)}`);
      });
    return this.#turn;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#unsubscribe();
    await this.look();
  }

  async #match(): Promise<void> {
    const wanted = this.#wanted();
    for (const [network, server] of this.#open) {
      if (wanted.get(network) === server.address) continue;
      server.close();
      this.#open.delete(network);
    }
    for (const [network, address] of wanted) {
      if (this.#open.has(network)) continue;
      try {
        this.#open.set(network, await this.#openAt({ network, address, port: resolverPort }));
        this.#problems.delete(network);
      } catch (error) {
        this.#tell(network, address, error);
      }
    }
  }

  /** Shared networks of which a VM is up, and the host's address on each. */
  #wanted(): Map<string, string> {
    const { db } = this.#context;
    if (this.#isClosed || !db.open) return new Map();
    const shared = listNetworks(db).filter(({ isShared }) => isShared);
    // Most hosts have none, and this is asked at each change of a VM.
    if (shared.length === 0) return new Map();
    const inUse = new Set(
      listVms(db)
        .filter(({ state, address }) => address !== undefined && (state === 'running' || state === 'paused'))
        .map(({ network }) => network),
    );
    return new Map(
      shared.filter(({ name }) => inUse.has(name)).map(({ name, subnet }) => [name, gatewayOf(subnet)]),
    );
  }

  /** VMs run without names as well: it is no reason to stop anything. Said once. */
  #tell(network: string, address: string, error: unknown): void {
    const problem =
      errnoOf(error) === 'EADDRINUSE'
        ? `port ${resolverPort} of ${address} is taken by another program`
        : errorText(error);
    if (this.#problems.get(network) === problem) return;
    this.#problems.set(network, problem);
    this.#context.log(
      'warn',
      `guests of the network "${network}" do not know each other by name: ${problem}`,
    );
  }
}

/** Loaded when there is somebody to answer. */
async function openGuestResolverLate(
  context: NamesContext,
  place: Parameters<OpenResolverAt>[0],
): Promise<OpenResolver> {
  const { openGuestResolver } = await import('./guest-resolver.ts');
  return openGuestResolver(context, place);
}
