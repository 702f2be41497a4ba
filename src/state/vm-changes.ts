import type { EgressPolicy } from './egress.ts';
import type { PublishedPort } from './ports.ts';
import type { PublishedSocket } from './sockets.ts';
import type { Database } from './database.ts';
import { getVm, type Labels, type Vm, type VmFileSync } from './vms.ts';

/** What can be changed about a VM that exists; what is absent stays, and `null` takes away. */
export interface VmChanges {
  readonly name?: string;
  readonly cpus?: number;
  readonly memoryMib?: number;
  readonly diskBytes?: number;
  readonly labels?: Labels;
  readonly ttlMs?: number | null;
  readonly idleStopMs?: number | null;
  readonly ports?: readonly PublishedPort[];
  readonly sockets?: readonly PublishedSocket[];
  readonly fileSync?: readonly VmFileSync[];
  readonly egress?: EgressPolicy;
  readonly publishesAll?: boolean;
}

/** Says where the control socket of a VM's next VMM is to be. It must not run: one that does keeps the one it has. */
export function setControlSocket(db: Database, id: string, path: string): Vm {
  db.prepare('UPDATE vms SET control_socket = ? WHERE id = ? AND control_socket <> ?').run(path, id, path);
  return getVm(db, id);
}
