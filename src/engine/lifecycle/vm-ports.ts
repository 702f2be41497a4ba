import { BangerError } from '../../errors.ts';
import { accessCard, userCard } from '../../host/drivers/driver.ts';
import { hostPortText, type PublishedPort } from '../../state/ports.ts';
import type { Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { guestSshPort } from '../guest-pool.ts';
import { isCarried } from '../ports/carried-ports.ts';
import type { ResultOf } from '../rpc/method.ts';
import type { vmPorts } from '../rpc/vm-stats-methods.ts';
import { withWayOut } from '../ssh-guest.ts';
import { requireRunning } from './exec-vm.ts';

type Listener = ResultOf<typeof vmPorts>['ports'][number];

const guestTimeoutMs = 30_000;
/** The guest's own addresses on its VMM's network, where published ports lead. */
const guestAddresses = [userCard, accessCard].map(({ address }) => address.split('/')[0]!);

/** Tables of sockets, then which process has which, in what every guest has: /proc and our toolbox. */
const script = `cd /proc
for table in tcp tcp6 udp udp6; do echo "table $table"; cat net/$table 2>/dev/null; done
for dir in [0-9]*; do
  case $(ls -l $dir/fd 2>/dev/null) in *socket:*) ;; *) continue ;; esac
  echo "process $dir $(cat $dir/comm 2>/dev/null)"
  ls -l $dir/fd 2>/dev/null
done
exit 0`;

/** What listens in a running VM's guest. The guest is not believed beyond numbers and names. */
export async function readVmPorts(
  context: EngineContext,
  vm: Vm,
  signal: AbortSignal,
): Promise<ResultOf<typeof vmPorts>> {
  requireRunning(vm);
  const bounded = AbortSignal.any([signal, AbortSignal.timeout(guestTimeoutMs)]);
  const asked = async () => {
    const guest = await context.guest(vm, bounded, { isWatching: true });
    return guest.runToolbox(['sh', '-c', script], { signal: bounded });
  };
  const { stdout } = await asked().catch((error: unknown) => {
    if (!bounded.aborted || signal.aborted) throw error;
    throw withWayOut(
      new BangerError(
        'guest_unreachable',
        `The guest of VM "${vm.name}" did not answer within ${guestTimeoutMs / 1000} s`,
      ),
      vm.name,
    );
  });
  const sshPort = context.handles.get(vm.id)?.sshPort;
  const ports = parseListeners(stdout.toString('utf8')).map((listener) => ({
    ...listener,
    published: [
      ...(listener.port === guestSshPort && listener.protocol === 'tcp' && sshPort
        ? [`127.0.0.1:${sshPort}/tcp`]
        : []),
      ...vm.ports.filter((port) => leadsTo(vm, port, listener)).map(hostPortText),
    ],
  }));
  return { id: vm.id, name: vm.name, ports };
}

/** A port leads to the guest's address on its network: what listens on its loopback only is not reached. */
function leadsTo(vm: Vm, port: PublishedPort, listener: Omit<Listener, 'published'>): boolean {
  const { address } = vm;
  const reached = isCarried(vm, port) && address !== undefined ? [address] : guestAddresses;
  return (
    port.protocol === listener.protocol &&
    port.guestPort === listener.port &&
    ['0.0.0.0', '::', ...reached].includes(listener.address)
  );
}

const listening = '0A';
const unconnected = '07';

/** Parses what the script prints: by port, then address. A port that several processes share is told once. */
export function parseListeners(text: string): Omit<Listener, 'published'>[] {
  const found = new Map<string, Omit<Listener, 'published'> & { readonly inode: string }>();
  const owners = new Map<string, { readonly pid: number; readonly process: string }>();
  let table = '';
  let owner: { readonly pid: number; readonly process: string } | undefined;
  for (const line of text.split('\n')) {
    const words = line.trim().split(/\s+/);
    const inode = /socket:\[(\d+)\]$/.exec(line)?.[1];
    const header = /^process (\d{1,10}) (.*)$/.exec(line);
    if (words[0] === 'table') table = words[1] ?? '';
    else if (header) owner = { pid: Number(header[1]), process: header[2]! };
    else if (inode !== undefined && owner && !owners.has(inode)) owners.set(inode, owner);
    else if (/^\d+:$/.test(words[0]!)) {
      const listener = parseRow(table, words);
      if (listener) found.set(`${table} ${listener.address} ${listener.port}`, listener);
    }
  }
  return [...found.values()]
    .map(({ inode, ...listener }) => ({ ...listener, ...owners.get(inode) }))
    .sort((one, other) => one.port - other.port || one.address.localeCompare(other.address));
}

/** See proc_net_tcp in the kernel's documentation. */
function parseRow(
  table: string,
  fields: readonly string[],
): (Omit<Listener, 'published'> & { readonly inode: string }) | undefined {
  const protocol = table.startsWith('udp') ? 'udp' : 'tcp';
  const [address = '', port = ''] = (fields[1] ?? '').split(':');
  if (fields[3] !== (protocol === 'udp' ? unconnected : listening)) return undefined;
  const number = Number.parseInt(port, 16);
  if (!/^(?:[0-9A-F]{8}|[0-9A-F]{32})$/.test(address)) return undefined;
  if (!(number >= 1 && number <= 65_535)) return undefined;
  return { protocol, address: addressText(address), port: number, inode: fields[9] ?? '' };
}

/** Four bytes at a time, each group in the guest's byte order, which is little-endian. */
function addressText(hex: string): string {
  const bytes = (hex.match(/.{8}/g) ?? []).flatMap((group) =>
    (group.match(/../g) ?? []).map((byte) => Number.parseInt(byte, 16)).reverse(),
  );
  if (bytes.length === 4) return bytes.join('.');
  const isMapped = bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
  if (isMapped) return bytes.slice(12).join('.');
  const groups = Array.from({ length: 8 }, (_, index) =>
    ((bytes[index * 2]! << 8) | bytes[index * 2 + 1]!).toString(16),
  );
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}
