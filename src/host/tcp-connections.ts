import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

const established = '01';

/** True when a program other than this one is connected to one of these ports of the host over IPv4. */
export function hasForeignConnection(ports: readonly number[]): boolean {
  const rows = readTable('/proc/net/tcp');
  const ownInodes = socketInodes();
  const ownPorts = new Set(rows.filter((row) => ownInodes.has(row.inode)).map((row) => row.localPort));
  return rows.some(
    (row) => row.state === established && ports.includes(row.localPort) && !ownPorts.has(row.remotePort),
  );
}

interface Row {
  readonly localPort: number;
  readonly remotePort: number;
  readonly state: string;
  readonly inode: string;
}

/** See proc_net_tcp in the kernel's documentation: numbers are hexadecimal, the inode is field 10. */
function readTable(path: string): Row[] {
  return readFileSync(path, 'utf8')
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields.length >= 10)
    .map((fields) => ({
      localPort: portOf(fields[1]!),
      remotePort: portOf(fields[2]!),
      state: fields[3]!,
      inode: fields[9]!,
    }));
}

function portOf(address: string): number {
  return Number.parseInt(address.split(':')[1] ?? '', 16);
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
