import { BangerError } from '../../errors.ts';
import type { HostSetup, PreparedNetwork } from '../../host/setup/host-setup.ts';
import type { Database } from '../../state/database.ts';
import {
  deleteNetworkRow,
  findNetwork,
  insertNetwork,
  listAddresses,
  listNetworks,
  shareNetwork,
  type Network,
} from '../../state/networks.ts';
import { listVms, type Vm } from '../../state/vms.ts';

/**
 * The row of a network that `host setup` made. What was set up is what there is, and rows follow it: but not while VMs
 * have addresses by them, which are then of networks that are no more. Throws `invalid_state` when those are in the way.
 */
export function preparedNetwork(db: Database, setup: HostSetup, name: string): Network {
  const prepared = setup.networks.find((one) => one.name === name);
  if (!prepared) {
    const names = setup.networks.map((one) => `"${one.name}"`).join(', ');
    throw new BangerError(
      'not_found',
      `There is no network named "${name}": this host was set up with ${names}`,
      { hint: `Have it set up with one more: sudo banger host setup --network ${name}` },
    );
  }
  for (const row of listNetworks(db)) {
    if (isSame(row, prepared)) return shareNetwork(db, row, prepared.isShared);
    if (row.name !== name && row.number !== prepared.number) continue;
    const vms = usersOf(db, row);
    if (vms.length > 0) {
      throw new BangerError(
        'invalid_state',
        `This host was set up anew, and ${vms.map((vm) => `"${vm}"`).join(', ')} still ${vms.length === 1 ? 'has an address' : 'have addresses'} of network "${row.name}" as it was before (${row.subnet})`,
        { hint: `Delete what cannot be started any more: banger vm delete ${vms.join(' ')}` },
      );
    }
    deleteNetworkRow(db, row.name);
  }
  const { number, subnet, isShared } = prepared;
  return insertNetwork(db, { number, name, subnet, isShared, createdAt: new Date().toISOString() });
}

/** Throws `invalid_state` unless a VM's network and address are still what `host setup` made for its user. */
export function requirePrepared(db: Database, setup: HostSetup, vm: Vm): void {
  const prepared = setup.networks.find((one) => one.name === vm.network);
  const row = findNetwork(db, vm.network);
  const anew = `VM "${vm.name}" has ${vm.address} of network "${vm.network}", and this host was set up anew without`;
  if (!prepared || !row || !isSame(row, prepared)) {
    throw new BangerError('invalid_state', `${anew} that network`, {
      hint: `See what there is now: banger network list; and make the VM anew on it, after: banger vm delete ${vm.name}`,
    });
  }
  shareNetwork(db, row, prepared.isShared);
  if (prepared.addresses.includes(vm.address ?? '')) return;
  const place = Number(vm.address?.split('.').at(-1)) - 1;
  throw new BangerError('invalid_state', `${anew} a tap for it`, {
    hint: `Have more made: sudo banger host setup --taps ${Math.max(place, prepared.addresses.length)}`,
  });
}

function isSame(row: Network, { name, number, subnet }: PreparedNetwork): boolean {
  return row.name === name && row.number === number && row.subnet === subnet;
}

function usersOf(db: Database, { number }: Network): string[] {
  const ids = new Set(listAddresses(db).flatMap((one) => (one.network === number ? [one.vmId] : [])));
  return listVms(db).flatMap(({ id, name }) => (ids.has(id) ? [name] : []));
}
