import { BangerError } from '../../errors.ts';
import { bridgeName, gatewayOf, reservedNetworkNames } from '../../host/network/plan.ts';
import type { PreparedNetwork } from '../../host/setup/host-setup.ts';
import {
  builtInNetworks,
  defaultBridgeNetwork,
  deleteNetworkRow,
  findNetwork,
  getNetwork,
  listNetworks,
  type Network,
} from '../../state/networks.ts';
import { listVms } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import {
  networkCreate,
  networkDelete,
  networkList,
  networkShow,
  type NetworkView,
} from '../rpc/network-methods.ts';
import { route, type Route } from '../rpc/server.ts';
import { bridgeMeans, makeNetwork, requireBridgeMeans } from './bridges.ts';

const builtIn: readonly string[] = [...builtInNetworks, defaultBridgeNetwork];

/** Every method about networks, one entry each. */
export function networkRoutes(context: EngineContext): Route[] {
  const locked = <T>(signal: AbortSignal, task: () => Promise<T>): Promise<T> =>
    context.locks.reservation.run('name', signal, task);
  return [
    route(networkCreate, ({ name }, { signal }) =>
      locked(signal, async () => {
        refuseReserved(name);
        refusePrepared(context, name);
        return viewBridged(context, await makeNetwork(context, { name, isShared: true }));
      }),
    ),
    route(networkList, () => {
      const rows = listNetworks(context.db).map(({ name }) => name);
      const others = [...new Set([...rows, ...preparedNetworks(context).map(({ name }) => name)])].sort();
      return [...builtIn, ...others.filter((name) => !builtIn.includes(name))].map((name) =>
        viewAny(context, name),
      );
    }),
    route(networkShow, ({ name }) => viewAny(context, name)),
    route(networkDelete, ({ name }, { signal }) =>
      locked(signal, async () => {
        if (builtIn.includes(name)) {
          throw new BangerError(
            'invalid_argument',
            `Network "${name}" is always there and cannot be deleted`,
          );
        }
        getNetwork(context.db, name);
        refusePreparedRemoval(context, name);
        deleteNetworkRow(context.db, name);
        return Promise.resolve({ name });
      }),
    ),
  ];
}

function refuseReserved(name: string): void {
  if (!reservedNetworkNames.includes(name)) return;
  throw new BangerError(
    'invalid_argument',
    builtIn.includes(name) ? `Network "${name}" is always there` : `A network cannot be named "${name}"`,
    { hint: 'Choose another name, such as: banger network create lab' },
  );
}

/** Where an administrator has made the networks, ours would have no bridge. */
function refusePrepared(context: EngineContext, name: string): void {
  if (requireBridgeMeans(context).kind === 'made') return;
  throw new BangerError('host_unsupported', 'The networks of this host were made by "host setup"', {
    hint: `Have it set up with one more: sudo banger host setup --network ${name}`,
  });
}

/** The row alone would go: what was set up would be listed still. */
function refusePreparedRemoval(context: EngineContext, name: string): void {
  if (!preparedNetworks(context).some((one) => one.name === name)) return;
  throw new BangerError('host_unsupported', `Network "${name}" was made by "host setup"`, {
    hint: 'It goes with all that was set up: sudo banger host teardown',
  });
}

function viewAny(context: EngineContext, name: string): NetworkView {
  // What was set up is there before a VM is on it.
  const found = preparedNetworks(context).find((one) => one.name === name) ?? findNetwork(context.db, name);
  if (found) return viewBridged(context, found);
  const kind = builtIn.find((one) => one === name) as NetworkView['kind'] | undefined;
  if (kind === undefined) getNetwork(context.db, name);
  return { name, kind: kind ?? 'bridge', isShared: false, vms: usersOf(context, name) };
}

function preparedNetworks(context: EngineContext): readonly PreparedNetwork[] {
  const means = bridgeMeans(context);
  return means?.kind === 'prepared' ? means.setup.networks : [];
}

function viewBridged(
  context: EngineContext,
  network: Omit<Network, 'createdAt'> & { readonly createdAt?: string },
): NetworkView {
  const { name, number, subnet, isShared, createdAt } = network;
  const means = bridgeMeans(context);
  return {
    name,
    kind: 'bridge',
    isShared,
    subnet,
    gateway: gatewayOf(subnet),
    bridge: means && bridgeName(means.owner, number),
    vms: usersOf(context, name),
    createdAt: name === defaultBridgeNetwork ? undefined : createdAt,
  };
}

function usersOf(context: EngineContext, network: string): NetworkView['vms'] {
  return listVms(context.db)
    .filter((vm) => vm.network === network)
    .map(({ name, address }) => ({ name, address }));
}
