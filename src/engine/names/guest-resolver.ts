import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import type { Database } from '../../state/database.ts';
import { listVms } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { Forwarder } from './dns/forwarder.ts';
import { NameServer } from './dns/name-server.ts';
import { Zone } from './dns/zone.ts';
import { addressesOf } from './name-service.ts';

const dnsPort = 53;
/** Addresses of all networks of banger: the host's name server knows whose they are, and would tell guests. */
const poolReverseZone = '213.10.in-addr.arpa';

export interface GuestResolverInput {
  /** The network whose guests ask: they are told of VMs of it, and of no others */
  readonly network: string;
  /** Where they reach the host */
  readonly address: string;
  readonly port?: number;
  /** Addresses of the name servers that the host asks, which answer for all other names */
  readonly upstreams?: () => Promise<readonly string[]>;
}

/**
 * A name server for the guests of one network. Throws what the system says when it cannot listen there; the caller
 * closes it with the network.
 */
export function openGuestResolver(
  { db }: Pick<EngineContext, 'db'>,
  { network, address, port = dnsPort, upstreams = hostNameServers }: GuestResolverInput,
): Promise<NameServer> {
  const known = cachedByChanges(db, () => {
    const vms = db.open ? listVms(db) : [];
    const here = vms.filter((vm) => vm.network === network && vm.state === 'running');
    const named = here.map((vm) => ({ name: vm.name, addresses: addressesOf(vm) }));
    const free = vms.flatMap(({ address, egress }) => (egress.kind === 'all' ? (address ?? []) : []));
    return { zone: new Zone(named, ++serial, poolReverseZone), mayForward: new Set(free) };
  });
  let serial = 0;
  const forwarder = new Forwarder({
    upstreams: async () => (await upstreams()).map((server) => ({ address: server, port: dnsPort })),
  });
  // A question carries what is in it to whoever serves its domain: those with rules have none but of their neighbours.
  const mayForward = (client: string): boolean => known().mayForward.has(client);
  return NameServer.listen({ address, port, zone: () => known().zone, forwarder, mayForward });
}

/** What is read from the database, until anything in it changes: guests decide how often they ask. */
function cachedByChanges<T>(db: Database, read: () => T): () => T {
  const changes = db.prepare<[], number>('SELECT total_changes()').pluck();
  let cached: { readonly at: number; readonly value: T } | undefined;
  return () => {
    // Nobody but this process writes to it.
    const at = db.open ? changes.get()! : -1;
    if (cached?.at !== at) cached = { at, value: read() };
    return cached.value;
  };
}

/** Those that the host itself asks: one on its loopback, too, which guests could not reach. */
async function hostNameServers(): Promise<string[]> {
  const text = await readFile('/etc/resolv.conf', 'utf8');
  const servers = [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].map(([, server]) => server!);
  return servers.filter((server) => isIP(server) !== 0);
}
