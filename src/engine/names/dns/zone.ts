import { isIPv4, isIPv6 } from 'node:net';
import { vmDomain } from '../../rpc/ssh-methods.ts';
import { classes, encodeName, rcodes, types, type Answer, type DnsRecord, type Question } from './wire.ts';

/** A VM that has addresses of its own, or none. */
export interface NamedVm {
  readonly name: string;
  /** IPv4 and IPv6, as text */
  readonly addresses: readonly string[];
}

/** How long an answer may be remembered, in seconds: VMs come and go. */
const ttl = 5;
const negativeTtl = 1;

/** Of the name of an IPv4 address backwards */
const addressLabels = 6;

const apex: readonly string[] = [vmDomain];

/**
 * Everything we know about names: `NAME.vm`, and the names of the VMs' addresses. What is not below `.vm`, and no
 * address of a VM, is somebody else's to answer.
 */
export class Zone {
  readonly #vms: ReadonlyMap<string, NamedVm>;
  readonly #pointers: ReadonlyMap<string, string>;
  readonly #serial: number;
  readonly #reverse: string | undefined;

  /**
   * `serial` tells one state from the next. Below `reverse`, such as `213.10.in-addr.arpa`, there are no other names
   * than ours; without it, others answer for addresses that are not of our VMs.
   */
  constructor(vms: readonly NamedVm[], serial: number, reverse?: string) {
    this.#vms = new Map(vms.map((vm) => [vm.name, vm]));
    this.#pointers = new Map(
      vms.flatMap((vm) => vm.addresses.map((address) => [reverseName(address).join('.'), vm.name] as const)),
    );
    this.#serial = serial;
    this.#reverse = reverse;
  }

  /** True for what only we can answer. */
  isOurs({ labels }: Pick<Question, 'labels'>): boolean {
    return labels.at(-1) === vmDomain || this.#pointers.has(labels.join('.')) || this.#isBelowReverse(labels);
  }

  #isBelowReverse(labels: readonly string[]): boolean {
    return this.#reverse !== undefined && `.${labels.join('.')}`.endsWith(`.${this.#reverse}`);
  }

  answer(question: Question): Answer {
    const isInternet = question.class === classes.IN || question.class === classes.ANY;
    const isTransfer = question.type === types.AXFR || question.type === types.IXFR;
    if (!isInternet || isTransfer || !this.isOurs(question)) return refusal;
    const name = question.labels;
    const records = this.#recordsAt(name);
    if (this.#isBelowReverse(name) && !records) return this.#noPointer(name);
    if (!records) return this.#negative(rcodes.nxDomain);
    const wanted = records.filter(({ type }) => type === question.type || question.type === types.ANY);
    if (wanted.length === 0) return this.#negative(rcodes.ok);
    return { rcode: rcodes.ok, isAuthoritative: true, answers: wanted, authority: [] };
  }

  /** All that is known of a name; undefined when there is no such name. */
  #recordsAt(name: readonly string[]): readonly DnsRecord[] | undefined {
    const pointer = this.#pointers.get(name.join('.'));
    if (pointer !== undefined) {
      return [{ name, type: types.PTR, ttl, data: encodeName([pointer, vmDomain]) }];
    }
    if (name.length === 1) {
      // Whoever asks at all has asked the host it is on.
      return [this.#soa(ttl), { name: apex, type: types.NS, ttl, data: encodeName(['localhost']) }];
    }
    const vm = name.length === 2 ? this.#vms.get(name[0]!) : undefined;
    return vm?.addresses.map((address) => addressRecord(name, address));
  }

  /** Above names of whole addresses there are names, without anything to them. */
  #noPointer(name: readonly string[]): Answer {
    const rcode = name.length < addressLabels ? rcodes.ok : rcodes.nxDomain;
    const authority = [{ ...this.#soa(negativeTtl), name: this.#reverse!.split('.') }];
    return { rcode, isAuthoritative: true, answers: [], authority };
  }

  #negative(rcode: Answer['rcode']): Answer {
    return { rcode, isAuthoritative: true, answers: [], authority: [this.#soa(negativeTtl)] };
  }

  #soa(recordTtl: number): DnsRecord {
    const numbers = Buffer.alloc(20);
    const [refresh, retry, expire] = [60, 10, 600];
    [this.#serial >>> 0, refresh, retry, expire, negativeTtl].forEach((value, index) =>
      numbers.writeUInt32BE(value, index * 4),
    );
    const data = Buffer.concat([encodeName(['localhost']), encodeName(['root', 'localhost']), numbers]);
    return { name: apex, type: types.SOA, ttl: recordTtl, data };
  }
}

const refusal: Answer = { rcode: rcodes.refused, isAuthoritative: false, answers: [], authority: [] };

function addressRecord(name: readonly string[], address: string): DnsRecord {
  const data = addressBytes(address);
  return { name, type: data.length === 4 ? types.A : types.AAAA, ttl, data };
}

/** The name under which an address is looked up. */
export function reverseName(address: string): string[] {
  const bytes = addressBytes(address);
  if (bytes.length === 4) return [...[...bytes].reverse().map(String), 'in-addr', 'arpa'];
  return [...[...bytes.toString('hex')].reverse(), 'ip6', 'arpa'];
}

/** Four bytes or sixteen. Throws on anything that is not an address: addresses are ours. */
export function addressBytes(address: string): Buffer {
  if (isIPv4(address)) return Buffer.from(address.split('.').map(Number));
  if (!isIPv6(address) || address.includes('%')) throw new TypeError(`"${address}" is not an address`);
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(address);
  const tail = dotted ? addressBytes(dotted[2]!).toString('hex').replace(/^.{4}/, '$&:') : '';
  const [left, right] = `${dotted?.[1] ?? address}${tail}`
    .split('::')
    .map((half) => half.split(':').filter(Boolean));
  const missing = 8 - left!.length - (right?.length ?? 0);
  const groups = right ? [...left!, ...Array<string>(missing).fill('0'), ...right] : left!;
  return Buffer.from(groups.map((group) => group.padStart(4, '0')).join(''), 'hex');
}
