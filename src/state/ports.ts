import { BangerError } from '../errors.ts';
import type { Database } from './database.ts';

/** A port of the host that leads into a VM, and is that VM's as long as it says so, running or not. */
export interface PublishedPort {
  readonly protocol: 'tcp' | 'udp';
  /** IPv4 address of the host that it listens on; `0.0.0.0` means all */
  readonly bind: string;
  readonly hostPort: number;
  readonly guestPort: number;
  /** True when the user left the host's port to us: one that is taken is replaced by another at the next start */
  readonly chosen: boolean;
  /** Port of the host that was asked for if it is free; each start tries it again */
  readonly wished?: number;
  /** True when it is there because something listens in the guest, and goes with that */
  readonly followed?: boolean;
}

/** The ports of the VM in `vms`, as a column of a query, for `parsePorts`. */
export const portsColumn = `(SELECT json_group_array(json_array(protocol, bind, host_port, guest_port, chosen, followed, wished))
   FROM (SELECT * FROM published_ports WHERE vm_id = vms.id ORDER BY guest_port, host_port, protocol, bind))`;

type Encoded = readonly ['tcp' | 'udp', string, number, number, 0 | 1, 0 | 1, number | null];

export function parsePorts(column: string): PublishedPort[] {
  return (JSON.parse(column) as Encoded[]).map(
    ([protocol, bind, hostPort, guestPort, chosen, followed, wished]) => ({
      protocol,
      bind,
      hostPort,
      guestPort,
      chosen: chosen === 1,
      ...(followed === 1 && { followed: true }),
      ...(wished !== null && { wished }),
    }),
  );
}

/** `127.0.0.1:8080/tcp` */
export function hostPortText({ protocol, bind, hostPort }: PublishedPort): string {
  return `${bind}:${hostPort}/${protocol}`;
}

/**
 * Gives a VM these ports and no others. Throws `already_exists` when one belongs to another VM, also when only one
 * of the two is for all addresses. The caller's transaction takes everything back then.
 */
export function replacePorts(db: Database, vmId: string, ports: readonly PublishedPort[]): void {
  db.prepare('DELETE FROM published_ports WHERE vm_id = ?').run(vmId);
  const insert = db.prepare('INSERT INTO published_ports VALUES (?, ?, ?, ?, ?, ?, ?, ?)');
  for (const port of ports) {
    const { protocol, bind, hostPort, guestPort, chosen, followed, wished } = port;
    const holder = findHolder(db, port);
    if (holder?.id === vmId)
      throw new BangerError('invalid_argument', `Port ${hostPortText(port)} is published twice`);
    if (holder) throw portTaken(port, holder.name);
    insert.run(vmId, protocol, bind, hostPort, guestPort, chosen ? 1 : 0, followed ? 1 : 0, wished);
  }
}

/** Forgets what followed a guest that listens no more. */
export function forgetFollowedPorts(db: Database, vmId: string): void {
  db.prepare('DELETE FROM published_ports WHERE vm_id = ? AND followed = 1').run(vmId);
}

/** What there is to say of a port that is taken, if it is a VM's, this one's or another's. */
export function ownedPort(db: Database, port: PublishedPort): BangerError | undefined {
  const holder = findHolder(db, port);
  return holder && portTaken(port, holder.name);
}

/** Who has a port, also when only one of the two is for all addresses. */
function findHolder(db: Database, { protocol, hostPort, bind }: PublishedPort) {
  return db
    .prepare<[string, number, string, string], { id: string; name: string }>(
      `SELECT vms.id, vms.name FROM published_ports JOIN vms ON vms.id = vm_id
       WHERE protocol = ? AND host_port = ? AND (bind = ? OR bind = '0.0.0.0' OR ? = '0.0.0.0')`,
    )
    .get(protocol, hostPort, bind, bind);
}

function portTaken(port: PublishedPort, owner: string): BangerError {
  const { hostPort, guestPort, protocol } = port;
  const suffix = protocol === 'udp' ? '/udp' : '';
  return new BangerError('already_exists', `Port ${hostPortText(port)} belongs to VM "${owner}"`, {
    hint: `Choose another with -p ${hostPort + 1}:${guestPort}${suffix}, or free it: banger vm set ${owner} --unpublish ${hostPort}${suffix}`,
  });
}
