import { BangerError } from '../../errors.ts';

/** An IPv4 network in CIDR notation, as numbers. */
export interface Subnet {
  /** Its first address */
  readonly first: number;
  readonly prefix: number;
}

/** `10.0.0.1` as a number; undefined for anything else. */
export function parseAddress(text: string): number | undefined {
  const bytes = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1).map(Number);
  if (!bytes || bytes.some((byte) => byte > 255)) return undefined;
  return bytes.reduce((number, byte) => number * 256 + byte, 0);
}

export function addressText(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.');
}

/** `10.0.0.0/24`, or an address alone for one of /32; undefined for anything else. */
export function parseSubnet(text: string): Subnet | undefined {
  const [address = '', prefixText = '32'] = text.split('/');
  const first = parseAddress(address);
  const prefix = Number(prefixText);
  if (first === undefined || !/^\d{1,2}$/.test(prefixText) || prefix > 32) return undefined;
  const size = 2 ** (32 - prefix);
  return { first: Math.floor(first / size) * size, prefix };
}

export function subnetText({ first, prefix }: Subnet): string {
  return `${addressText(first)}/${prefix}`;
}

/** True when an address is in both. */
export function overlaps(one: Subnet, other: Subnet): boolean {
  const prefix = Math.min(one.prefix, other.prefix);
  const size = 2 ** (32 - prefix);
  return Math.floor(one.first / size) === Math.floor(other.first / size);
}

/**
 * The MAC of whoever has an address: a locally administered one that holds it. Addresses are unique, so these are,
 * and a neighbour that remembers the last guest of an address is right about the next one too.
 */
export function macOf(address: string): string {
  const number = parseAddress(address);
  if (number === undefined) throw new BangerError('internal', `"${address}" is no IPv4 address`);
  const bytes = [24, 16, 8, 0].map((shift) => Math.floor(number / 2 ** shift) % 256);
  return ['02', '00', ...bytes.map((byte) => byte.toString(16).padStart(2, '0'))].join(':');
}
