import { isIP } from 'node:net';

/** An address as a number, with the length in bits that its family has. IPv4 inside IPv6 (`::ffff:…`) is IPv4. */
export interface IpAddress {
  readonly bits: 32 | 128;
  readonly value: bigint;
}

/** A network. `prefix` counts in the family of its address. */
export interface IpNetwork {
  readonly address: IpAddress;
  readonly prefix: number;
}

/** Parses an address in its usual notation, and no other; undefined when it is none, or names an interface (`%eth0`). */
export function parseIpAddress(text: string): IpAddress | undefined {
  switch (isIP(text)) {
    case 4:
      return { bits: 32, value: text.split('.').reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n) };
    case 6:
      return text.includes('%') ? undefined : unmapped(ipv6Value(text));
    default:
      return undefined;
  }
}

/** Parses `10.0.0.0/8`, or an address alone; undefined when it is neither. */
export function parseIpNetwork(text: string): IpNetwork | undefined {
  const [, base = '', length] = /^(.*?)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const address = parseIpAddress(base);
  if (!address) return undefined;
  const isMapped = base.includes(':') && address.bits === 32;
  const prefix = length === undefined ? address.bits : Number(length) - (isMapped ? 96 : 0);
  return prefix < 0 || prefix > address.bits ? undefined : { address, prefix };
}

/** The network that this address and prefix mean: without bits behind the prefix. */
export function networkOf({ address, prefix }: IpNetwork): IpNetwork {
  const behind = BigInt(address.bits - prefix);
  return { address: { bits: address.bits, value: (address.value >> behind) << behind }, prefix };
}

export function isInNetwork(address: IpAddress, network: IpNetwork): boolean {
  const behind = BigInt(network.address.bits - network.prefix);
  return address.bits === network.address.bits && address.value >> behind === network.address.value >> behind;
}

/** As it is usually written; IPv6 in its shortest form. */
export function formatIpAddress({ bits, value }: IpAddress): string {
  if (bits === 32) return [24n, 16n, 8n, 0n].map((shift) => String((value >> shift) & 0xffn)).join('.');
  const groups = Array.from({ length: 8 }, (_, index) =>
    ((value >> BigInt(112 - index * 16)) & 0xffffn).toString(16),
  );
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}

/** `10.0.0.0/8`; an address alone for a network of one. */
export function formatIpNetwork({ address, prefix }: IpNetwork): string {
  return prefix === address.bits ? formatIpAddress(address) : `${formatIpAddress(address)}/${prefix}`;
}

function ipv6Value(text: string): bigint {
  // The URL parser writes every form, embedded IPv4 too, as groups of hex digits with one gap at most.
  const [left = '', right] = new URL(`http://[${text}]`).hostname.slice(1, -1).split('::');
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const after = groups(right ?? '');
  const before = groups(left);
  const gap = Array.from({ length: 8 - before.length - after.length }, () => '0');
  return [...before, ...gap, ...after].reduce((sum, group) => (sum << 16n) | BigInt(`0x${group}`), 0n);
}

function unmapped(value: bigint): IpAddress {
  return value >> 32n === 0xffffn ? { bits: 32, value: value & 0xffff_ffffn } : { bits: 128, value };
}

/**
 * Networks that a guest reaches only when a rule names the address: everything that is not the public internet
 * (https://www.iana.org/assignments/iana-ipv4-special-registry), and what clouds tell their machines secrets at.
 */
const specialNetworks: readonly (readonly [network: string, what: string])[] = [
  ['127.0.0.0/8', "this host's loopback"],
  ['169.254.0.0/16', 'link-local, where clouds have their metadata'],
  ['10.0.0.0/8', 'a private network'],
  ['172.16.0.0/12', 'a private network'],
  ['192.168.0.0/16', 'a private network'],
  ['100.64.0.0/10', 'shared by customers of a provider'],
  ['168.63.129.16/32', "a cloud's metadata"],
  ['0.0.0.0/8', 'this host'],
  ['192.0.0.0/24', 'reserved'],
  ['192.0.2.0/24', 'reserved for documentation'],
  ['198.51.100.0/24', 'reserved for documentation'],
  ['203.0.113.0/24', 'reserved for documentation'],
  ['198.18.0.0/15', 'reserved for benchmarks'],
  ['192.88.99.0/24', 'reserved'],
  ['224.0.0.0/4', 'multicast'],
  ['240.0.0.0/4', 'reserved'],
  ['::1/128', "this host's loopback"],
  ['::/128', 'this host'],
  ['fe80::/10', 'link-local'],
  ['fc00::/7', 'a private network'],
  ['ff00::/8', 'multicast'],
  ['2001::/23', 'reserved'],
  ['2001:db8::/32', 'reserved for documentation'],
  ['2002::/16', 'a way around IPv4 rules (6to4)'],
  ['3fff::/20', 'reserved for documentation'],
];
const special = specialNetworks.map(([text, what]) => ({ network: parseIpNetwork(text)!, what }));
const globalUnicast = parseIpNetwork('2000::/3')!;
const translated = parseIpNetwork('64:ff9b::/96')!;

/** What is special about an address, such as `a private network`; undefined for one of the public internet. */
export function specialPurpose(address: IpAddress): string | undefined {
  // Written so, an IPv4 address is reached over IPv6: what holds for it holds here.
  if (isInNetwork(address, translated))
    return specialPurpose({ bits: 32, value: address.value & 0xffff_ffffn });
  const found = special.find(({ network }) => isInNetwork(address, network));
  if (found) return found.what;
  return address.bits === 128 && !isInNetwork(address, globalUnicast) ? 'reserved' : undefined;
}
