import { errnoOf, errorText } from '../../errors.ts';
import type { DnsListen } from '../../state/dns-listen.ts';
import { listVms, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { lastGood } from '../once.ts';
import { hostNameOf } from '../rpc/ssh-methods.ts';
import type { NameServer } from './dns/name-server.ts';
import { Zone, type NamedVm } from './dns/zone.ts';

type NamesContext = Pick<EngineContext, 'db' | 'events' | 'log' | 'config'>;

export interface NameServiceOptions {
  readonly addresses?: (vm: Vm) => readonly string[];
  /** Where it listens when the configuration does not say */
  readonly autoPort?: () => number;
  /** How soon a port that was taken is tried again */
  readonly retryMs?: number;
}

/** Another engine may have the port, which leaves when its VMs are gone. */
const usualRetryMs = 10_000;

/** Addresses that are a VM's own while it runs. One in `user` mode has none: it is behind the host's. */
export function addressesOf({ address }: Vm): readonly string[] {
  return address === undefined ? [] : [address];
}

/**
 * Answers for `NAME.vm` on the loopback. What it knows is in the database, so that it knows as much after a restart;
 * it listens only while there is something to know, or when the configuration says where.
 */
export class NameService {
  readonly #context: NamesContext;
  readonly #listenWanted: () => DnsListen;
  readonly #addresses: (vm: Vm) => readonly string[];
  readonly #autoPort: (() => number) | undefined;
  readonly #retryMs: number;
  readonly #unsubscribe: () => void;
  #zone: Zone | undefined;
  #serial = Math.floor(Date.now() / 1000);
  #server: NameServer | undefined;
  #turn: Promise<void> = Promise.resolve();
  #isClosed = false;
  #lastProblem: string | undefined;
  #retry: NodeJS.Timeout | undefined;

  constructor(context: NamesContext, options: NameServiceOptions = {}) {
    this.#context = context;
    this.#addresses = options.addresses ?? addressesOf;
    this.#autoPort = options.autoPort;
    this.#retryMs = options.retryMs ?? usualRetryMs;
    this.#listenWanted = lastGood(() => context.config().dnsListen);
    this.#unsubscribe = context.events.subscribe(({ type }) => {
      // It tells of its problems itself.
      if (type === 'vm') void this.look();
    });
  }

  /** Where it listens now */
  get place(): string | undefined {
    return this.#server && `${this.#server.address}:${this.#server.port}`;
  }

  /** Why it does not listen though it should */
  get problem(): string | undefined {
    return this.#lastProblem;
  }

  zone(): Zone {
    this.#zone ??= new Zone(this.#named(), this.#serial);
    return this.#zone;
  }

  /** Something about VMs has changed: begins or ceases to listen as needed. Returns when that is done. */
  look(): Promise<void> {
    this.#zone = undefined;
    this.#serial++;
    this.#turn = this.#turn.then(() => this.#match()).catch((error: unknown) => this.#tell(error));
    return this.#turn;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#retry);
    this.#unsubscribe();
    await this.#turn;
    this.#server?.close();
    this.#server = undefined;
  }

  #named(): NamedVm[] {
    const { db } = this.#context;
    if (!db.open) return [];
    const isThere = (vm: Vm): boolean => vm.state === 'running' || vm.state === 'paused';
    return listVms(db).map((vm) => ({ name: vm.name, addresses: isThere(vm) ? this.#addresses(vm) : [] }));
  }

  async #match(): Promise<void> {
    const wanted = this.#listenWanted();
    const isNeeded = wanted.isAlways || this.#named().some(({ addresses }) => addresses.length > 0);
    const place = isNeeded && !this.#isClosed ? this.#placeOf(wanted) : undefined;
    const { address, port } = this.#server ?? {};
    if (place && place.address === address && (place.port === port || place.port === 0)) return;
    this.#server?.close();
    this.#server = undefined;
    if (!place) return;
    // Loaded when there is somebody to answer for.
    const { NameServer } = await import('./dns/name-server.ts');
    this.#server = await NameServer.listen({ ...place, zone: () => this.zone() });
    this.#lastProblem = undefined;
    this.#context.log('info', `names of VMs are answered for on ${this.place}`, {
      example: hostNameOf('NAME'),
    });
  }

  #placeOf({ place, isAlways }: DnsListen): DnsListen['place'] {
    if (!place || isAlways || !this.#autoPort) return place;
    return { ...place, port: this.#autoPort() };
  }

  /** VMs run without names as well: it is no reason to stop anything. Said once, and tried again. */
  #tell(error: unknown): void {
    clearTimeout(this.#retry);
    if (!this.#isClosed) this.#retry = setTimeout(() => void this.look(), this.#retryMs).unref();
    const problem =
      errnoOf(error) === 'EADDRINUSE' ? 'its port is taken by another program' : errorText(error);
    if (problem === this.#lastProblem) return;
    this.#lastProblem = problem;
    this.#context.log('warn', `names of VMs are not answered for: ${problem}`);
  }
}
