import type { Database } from './database.ts';

/** Notes that a new VM is to get a working tree and what that asks for, and has not got all of it yet. */
export function beginFurnishing(db: Database, vmId: string): void {
  db.prepare('INSERT INTO furnishing (vm_id) VALUES (?)').run(vmId);
}

/** It has all of it. */
export function endFurnishing(db: Database, vmId: string): void {
  db.prepare('DELETE FROM furnishing WHERE vm_id = ?').run(vmId);
}

export function isFurnishing(db: Database, vmId: string): boolean {
  return db.prepare('SELECT 1 FROM furnishing WHERE vm_id = ?').get(vmId) !== undefined;
}
