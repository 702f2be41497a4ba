import { BangerError } from '../errors.ts';
import type { Database } from './database.ts';

/** A Unix socket of the host that leads to one in a VM, and is that VM's as long as it says so, running or not. */
export interface PublishedSocket {
  /** Absolute */
  readonly hostPath: string;
  /** Absolute, in the image's root */
  readonly guestPath: string;
}

/** The sockets of the VM in `vms`, as a column of a query, for `parseSockets`. */
export const socketsColumn = `(SELECT json_group_array(json_array(host_path, guest_path))
   FROM (SELECT * FROM published_sockets WHERE vm_id = vms.id ORDER BY guest_path, host_path))`;

export function parseSockets(column: string): PublishedSocket[] {
  return (JSON.parse(column) as [string, string][]).map(([hostPath, guestPath]) => ({ hostPath, guestPath }));
}

/**
 * Gives a VM these sockets and no others. Throws `already_exists` when a path of the host is another VM's. The
 * caller's transaction takes everything back then.
 */
export function replaceSockets(db: Database, vmId: string, sockets: readonly PublishedSocket[]): void {
  db.prepare('DELETE FROM published_sockets WHERE vm_id = ?').run(vmId);
  const insert = db.prepare('INSERT INTO published_sockets VALUES (?, ?, ?)');
  for (const { hostPath, guestPath } of sockets) {
    refuseOwnedSocket(db, hostPath, undefined);
    insert.run(hostPath, vmId, guestPath);
  }
}

/** Throws when a path of the host leads into a VM already, other than `vmId`. */
export function refuseOwnedSocket(db: Database, hostPath: string, vmId: string | undefined): void {
  const owner = db
    .prepare<[string], { id: string; name: string }>(
      'SELECT vms.id, vms.name FROM published_sockets JOIN vms ON vms.id = vm_id WHERE host_path = ?',
    )
    .get(hostPath);
  if (!owner || owner.id === vmId) return;
  throw new BangerError('already_exists', `Socket "${hostPath}" leads into VM "${owner.name}" already`, {
    hint: `Choose another path, or free it: banger vm port remove ${owner.name} ${hostPath}`,
  });
}
