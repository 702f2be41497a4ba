import { BangerError } from '../errors.ts';
import type { Database } from './database.ts';
import { isOneEditAway } from './one-edit-away.ts';

/** Networks that need no row: the VMM's own, and none at all. */
export const builtInNetworks = ['user', 'none'] as const;

/** Name of the network behind a bridge whose guests are kept from each other. It is made when it is first needed. */
export const defaultBridgeNetwork = 'bridge';

/** True for a network that VMs are connected to by a bridge of the host. */
export function isBridged(network: string): boolean {
  return !builtInNetworks.some((name) => name === network);
}

/** A network behind a bridge. */
export interface Network {
  /** Its bridge and its addresses follow from it */
  readonly number: number;
  readonly name: string;
  /** CIDR */
  readonly subnet: string;
  /** Whether its guests reach each other */
  readonly isShared: boolean;
  readonly createdAt: string;
}

interface NetworkRow extends Omit<Network, 'isShared'> {
  readonly isShared: number;
}

const columns = 'number, name, subnet, is_shared AS isShared, created_at AS createdAt';

export function listNetworks(db: Database): Network[] {
  return db.prepare<[], NetworkRow>(`SELECT ${columns} FROM networks ORDER BY name`).all().map(toNetwork);
}

export function findNetwork(db: Database, name: string): Network | undefined {
  const row = db.prepare<[string], NetworkRow>(`SELECT ${columns} FROM networks WHERE name = ?`).get(name);
  return row && toNetwork(row);
}

export function getNetwork(db: Database, name: string): Network {
  const found = findNetwork(db, name);
  if (found) return found;
  throw noNetwork(db, name);
}

export function noNetwork(db: Database, name: string): BangerError {
  const names = [...builtInNetworks, defaultBridgeNetwork, ...listNetworks(db).map((one) => one.name)];
  const close = names.find((one) => isOneEditAway(one, name));
  const hint =
    close === undefined
      ? `Make it with: banger network create ${name}; or see which there are: banger network list`
      : `Did you mean "${close}"? List networks with: banger network list`;
  return new BangerError('not_found', `There is no network named "${name}"`, { hint });
}

/** Throws `already_exists` when the name is taken. */
export function insertNetwork(db: Database, network: Network): Network {
  const { changes } = db
    .prepare<[object]>(
      `INSERT INTO networks (number, name, subnet, is_shared, created_at)
       VALUES (@number, @name, @subnet, @isShared, @createdAt) ON CONFLICT (name) DO NOTHING`,
    )
    .run({ ...network, isShared: network.isShared ? 1 : 0 });
  if (changes === 1) return network;
  throw new BangerError('already_exists', `There is already a network named "${network.name}"`, {
    hint: 'List networks with: banger network list',
  });
}

/** Says whether guests of a network reach each other, where that has changed. */
export function shareNetwork(db: Database, network: Network, isShared: boolean): Network {
  if (network.isShared === isShared) return network;
  db.prepare('UPDATE networks SET is_shared = ? WHERE name = ?').run(isShared ? 1 : 0, network.name);
  return { ...network, isShared };
}

/** Forgets a network. Throws `invalid_state` while VMs are on it; one that is gone counts as forgotten. */
export function deleteNetworkRow(db: Database, name: string): void {
  const users = networkUsers(db, name);
  if (users.length > 0) {
    throw new BangerError('invalid_state', `Network "${name}" is used by VM ${users.join(', ')}`, {
      hint: `Delete them first: banger vm delete ${users.join(' ')}`,
    });
  }
  db.prepare('DELETE FROM networks WHERE name = ?').run(name);
}

/** Names of the VMs that are on a network. */
export function networkUsers(db: Database, name: string): string[] {
  return db
    .prepare<[string], { name: string }>('SELECT name FROM vms WHERE network = ? ORDER BY name')
    .all(name)
    .map((row) => row.name);
}

/** Which VM has an address. */
export interface TakenAddress {
  readonly vmId: string;
  readonly network: number;
  readonly address: string;
}

export function listAddresses(db: Database): TakenAddress[] {
  return db
    .prepare<[], TakenAddress>(
      'SELECT vm_id AS vmId, network, address FROM vm_addresses ORDER BY network, address',
    )
    .all();
}

/**
 * Gives a VM the first of these addresses that no other has: its own until it is released, or its row goes. Throws
 * `busy` when all are taken.
 */
export function takeAddress(
  db: Database,
  vmId: string,
  from: { network: Network; addresses: readonly string[] },
): string {
  const insert = db.prepare(
    'INSERT INTO vm_addresses (vm_id, network, address) VALUES (?, ?, ?) ON CONFLICT (address) DO NOTHING',
  );
  for (const address of from.addresses) {
    if (insert.run(vmId, from.network.number, address).changes === 1) return address;
  }
  throw new BangerError(
    'busy',
    `All ${from.addresses.length} addresses of network "${from.network.name}" are taken`,
    {
      hint: 'Delete a VM that you do not need, or use another network: banger network create NAME',
    },
  );
}

/** Lets others have a VM's address. One that has none counts as released. */
export function releaseAddress(db: Database, vmId: string): void {
  db.prepare('DELETE FROM vm_addresses WHERE vm_id = ?').run(vmId);
}

function toNetwork(row: NetworkRow): Network {
  return { ...row, isShared: row.isShared === 1 };
}
