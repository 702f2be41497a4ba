import type { Database } from '../../src/state/database.ts';
import { insertVm, type Vm } from '../../src/state/vms.ts';

/** Puts the row of a VM into a database; there is no machine behind it. */
export function addVm({ db }: { readonly db: Database }, name: string, imageId: string): Vm {
  return insertVm(db, {
    id: name.padEnd(32, '0'),
    name,
    imageId,
    imageName: 'x',
    cpus: 1,
    memoryMib: 128,
    diskBytes: 1,
    network: 'user',
    hostPublicKey: 'k',
    ephemeral: false,
    controlSocket: '/x',
    createdAt: '2026-01-01T00:00:00Z',
  });
}
