import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { errnoOf } from '../errors.ts';

const established = '01';
/** How the kernel writes the first 96 bits of an IPv4 address in a socket of IPv6, on little-endian machines */
const mappedPrefix = '0000000000000000FFFF0000';

/** Where a VM is reached from this host. */
export interface ReachedAt {
  /** Ports of the host that lead to it */
  readonly ports: readonly number[];
  /** An IPv4 address of its own */
  readonly address?: string;
}

/**
 * True when a program of this host other than this one is connected to one of these ports, or with this address, over
 * IPv4. Connections that this host only passes on are not seen.
 */
export function hasForeignConnection({ ports, address }: ReachedAt): boolean {
  const rows = [...readTable('/proc/net/tcp'), ...readTable('/proc/net/tcp6')];
  const ownInodes = socketInodes();
  const own = rows.filter((row) => ownInodes.has(row.inode));
  const ownPorts = new Set(own.map((row) => row.localPort));
  const isToPort = (row: Row): boolean => ports.includes(row.localPort) && !ownPorts.has(row.remotePort);
  const isToAddress = (row: Row): boolean =>
    address !== undefined && row.remoteAddress === address && !own.includes(row);
  return rows.some((row) => row.state === established && (isToPort(row) || isToAddress(row)));
}

interface Row {
  readonly localPort: number;
  readonly remotePort: number;
  /** Undefined for IPv6 */
  readonly remoteAddress: string | undefined;
  readonly state: string;
  readonly inode: string;
}

/** See proc_net_tcp in the kernel's documentation: numbers are hexadecimal, the inode is field 10. */
function readTable(path: string): Row[] {
  return readIfThere(path)
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields.length >= 10)
    .map((fields) => ({
      localPort: portOf(fields[1]!),
      remotePort: portOf(fields[2]!),
      remoteAddress: addressOf(fields[2]!),
      state: fields[3]!,
      inode: fields[9]!,
    }));
}

/** A host without IPv6 has no table of it. */
function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return '';
    throw error;
  }
}

function portOf(address: string): number {
  return Number.parseInt(address.split(':')[1] ?? '', 16);
}

/** The bytes of an IPv4 address come last to first. */
function addressOf(place: string): string | undefined {
  const hex = place.split(':')[0]!.replace(mappedPrefix, '');
  if (!/^[0-9A-F]{8}$/.test(hex)) return undefined;
  return [6, 4, 2, 0].map((at) => Number.parseInt(hex.slice(at, at + 2), 16)).join('.');
}

function socketInodes(): Set<string> {
  const inodes = new Set<string>();
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1];
      if (inode !== undefined) inodes.add(inode);
    } catch {
      // The descriptor of the listing itself is gone by now; so may be others.
    }
  }
  return inodes;
}
