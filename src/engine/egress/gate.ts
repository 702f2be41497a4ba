import { connect, type LookupFunction, type Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import { errnoOf, errorText } from '../../errors.ts';
import { giveUpAfter } from '../../host/patience.ts';
import { printable } from '../../printable.ts';
import {
  findDomainRule,
  findNetworkRule,
  parseHost,
  type EgressPolicy,
  type EgressRule,
} from '../../state/egress.ts';
import { formatIpAddress, parseIpAddress, specialPurpose, type IpAddress } from '../../state/ip-address.ts';
import { EgressLog } from './egress-log.ts';
import { Lookups, type LookupFor } from './lookups.ts';

/** How the gate finds and reaches others; tests bring their own. */
export interface EgressWays {
  /** All addresses of a name, as this host finds them */
  readonly lookup: (name: string, asked: LookupFor) => Promise<readonly string[]>;
  /** This host's own addresses now: what listens there may be closed to everybody but itself */
  readonly ownAddresses: () => readonly string[];
  /** Connects to one of the addresses, and to nothing else; gives up when nobody waits for it any more */
  readonly dial: (target: DialTarget) => Promise<Socket>;
}

export interface DialTarget {
  readonly addresses: readonly string[];
  readonly port: number;
  readonly signal: AbortSignal;
}

/** Why a connection is not made: against the rules, or because it does not work. */
export class EgressError extends Error {
  readonly kind: 'blocked' | 'unresolved' | 'refused' | 'unreachable';

  constructor(kind: EgressError['kind'], message: string) {
    super(message);
    this.kind = kind;
  }
}

const dialTimeoutMs = 30_000;
const maxHostLength = 255;
/** Of one guest at a time, which decides how many it asks for: each takes memory and a socket here. */
export const maxConnections = 256;

/**
 * Makes a guest's connections, if its policy lets it.
 *
 * Names are looked up here, and only those that a rule names: a lookup carries what is in the name to whoever serves
 * its domain. What is connected to is an address that was checked, so that a name that means something else a moment
 * later (DNS rebinding) leads nowhere. Addresses that are not public need a rule about their network.
 */
export class EgressGate {
  policy: EgressPolicy;
  readonly log: EgressLog;
  readonly #ways: EgressWays;
  /** Connections that are asked for and not there yet, also by those who have hung up */
  #pending = 0;

  constructor(policy: EgressPolicy, ways: EgressWays, log = new EgressLog()) {
    this.policy = policy;
    this.log = log;
    this.#ways = ways;
  }

  /** Throws `EgressError`, also when `signal` says that the guest has hung up. Everything that is asked for is logged. */
  async connect(hostText: string, port: number, signal: AbortSignal): Promise<Socket> {
    if (this.#pending >= maxConnections) throw new EgressError('unreachable', 'Too many do not answer yet');
    this.#pending++;
    try {
      const socket = await this.#connect(hostText, port, signal);
      if (!signal.aborted) return socket;
      socket.destroy();
      throw new EgressError('unreachable', 'The guest hung up');
    } finally {
      this.#pending--;
    }
  }

  async #connect(hostText: string, port: number, signal: AbortSignal): Promise<Socket> {
    const host = hostText.slice(0, maxHostLength);
    const block = (reason: string, rule?: EgressRule): EgressError =>
      this.#blocked(host, port, { reason, rule });
    const asked = parseHost(hostText);
    if (!asked) throw block('that is neither a name nor an address');
    if (!Number.isInteger(port) || port < 1 || port > 65_535) throw block('that is not a port');

    if ('address' in asked) {
      const rule = findNetworkRule(this.policy, asked.address, port);
      if (!rule && this.policy.kind === 'rules') throw block(this.#addressReason(asked.address, port));
      this.#allowed(host, port, rule);
      return this.#dial([asked.address], port, signal);
    }
    const rule = findDomainRule(this.policy, asked.name, port);
    if (!rule && this.policy.kind === 'rules') throw block(this.#nameReason(asked.name));
    const addresses = await this.#resolve(asked.name, signal);
    const fit = addresses.filter((address) => this.#mayReach(address, port));
    if (fit.length === 0) {
      const [first] = addresses;
      throw block(
        `it is ${formatIpAddress(first!)} (${this.#purposeOf(first!)}), which no rule about addresses allows`,
        rule,
      );
    }
    this.#allowed(host, port, rule);
    return this.#dial(fit, port, signal);
  }

  /** Logs that a connection was ended for what was said over it. */
  refuse(host: string, port: number, reason: string): EgressError {
    return this.#blocked(host.slice(0, maxHostLength), port, { reason });
  }

  #mayReach(address: IpAddress, port: number): boolean {
    if (this.policy.kind === 'all' || this.#purposeOf(address) === undefined) return true;
    return findNetworkRule(this.policy, address, port) !== undefined;
  }

  /** What keeps a name from leading to an address; undefined for one that is anybody's. */
  #purposeOf(address: IpAddress): string | undefined {
    const purpose = specialPurpose(address);
    if (purpose !== undefined) return purpose;
    return this.#ways.ownAddresses().includes(formatIpAddress(address)) ? "this host's own" : undefined;
  }

  #addressReason(address: IpAddress, port: number): string {
    const text = formatIpAddress(address);
    const what = this.#purposeOf(address);
    const which = what === undefined ? text : `${text} (${what})`;
    return this.#isNone() ? 'egress is none' : `no rule allows the address ${which} with port ${port}`;
  }

  #nameReason(name: string): string {
    if (this.#isNone()) return 'egress is none';
    const others = this.policy.kind === 'rules' ? this.policy.rules : [];
    const near = others.find(
      (rule) =>
        findDomainRule({ kind: 'rules', rules: [{ ...rule, ports: undefined }] }, name, 1) !== undefined,
    );
    return near ? `the rule "${near.text}" is about another port` : 'no rule names it';
  }

  #isNone(): boolean {
    return this.policy.kind === 'rules' && this.policy.rules.length === 0;
  }

  async #resolve(name: string, signal: AbortSignal): Promise<IpAddress[]> {
    const texts = await this.#ways.lookup(name, { client: this, signal }).catch((error: unknown) => {
      throw new EgressError(
        'unresolved',
        `"${name}" is not found by this host (${errnoOf(error) ?? errorText(error)})`,
      );
    });
    // A zone (`%eth0`) is dropped with its address: those are never public.
    const addresses = texts.flatMap((text) => parseIpAddress(text) ?? []);
    if (addresses.length === 0) throw new EgressError('unresolved', `"${name}" has no address`);
    return addresses;
  }

  async #dial(addresses: readonly IpAddress[], port: number, signal: AbortSignal): Promise<Socket> {
    try {
      return await this.#ways.dial({ addresses: addresses.map(formatIpAddress), port, signal });
    } catch (error) {
      const errno = errnoOf(error);
      throw new EgressError(
        errno === 'ECONNREFUSED' ? 'refused' : 'unreachable',
        `It does not answer (${errno ?? errorText(error)})`,
      );
    }
  }

  #allowed(host: string, port: number, rule: EgressRule | undefined): void {
    this.log.add({ host: printable(host), port, verdict: 'allowed', rule: rule?.text });
  }

  #blocked(
    host: string,
    port: number,
    { reason, rule }: { readonly reason: string; readonly rule?: EgressRule },
  ): EgressError {
    const shown = printable(host);
    this.log.add({ host: shown, port, verdict: 'blocked', reason, rule: rule?.text });
    return new EgressError('blocked', `${shown}:${port} is blocked: ${reason}`);
  }
}

/** The first address gets this long before the next one is tried beside it. */
const attemptTimeoutMs = 2_000;

/** By what this host resolves and reaches. All gates share one. */
export function hostEgressWays(): EgressWays {
  const lookups = new Lookups();
  return {
    lookup: (name, asked) => lookups.lookup(name, asked),
    ownAddresses: () =>
      Object.values(networkInterfaces())
        .flat()
        .flatMap((one) => parseIpAddress(one?.address ?? '') ?? [])
        .map(formatIpAddress),
    dial: dialOne,
  };
}

/** Connects to the first address that answers, trying IPv6 and IPv4 side by side as browsers do. */
async function dialOne({ addresses, port, signal }: DialTarget): Promise<Socket> {
  const checked = addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
  const lookup: LookupFunction = (_name, options, done) => {
    if (options.all) done(null, checked);
    else done(null, checked[0]!.address, checked[0]!.family);
  };
  // The name is never looked up by anybody else: `lookup` answers for it.
  const socket = connect({
    host: 'checked.invalid',
    port,
    lookup,
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: attemptTimeoutMs,
    allowHalfOpen: true,
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.once('connect', resolve);
  socket.once('error', reject);
  const takeBack = giveUpAfter(dialTimeoutMs, () =>
    reject(Object.assign(new Error('no answer in time'), { code: 'ETIMEDOUT' })),
  );
  const hangUp = (): void => reject(new Error('nobody waits for it'));
  signal.addEventListener('abort', hangUp, { once: true });
  try {
    if (signal.aborted) hangUp();
    await promise;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 60_000);
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    takeBack();
    signal.removeEventListener('abort', hangUp);
  }
}
