import type { NetworkView } from '../engine/rpc/network-methods.ts';
import { printable } from '../printable.ts';

/** What a network is like, in a phrase. */
export function networkKindText({ kind, isShared }: Pick<NetworkView, 'kind' | 'isShared'>): string {
  switch (kind) {
    case 'user':
      return 'out through this host';
    case 'none':
      return 'nothing gets out';
    case 'bridge':
      return isShared ? 'bridge, its VMs reach each other' : 'bridge, its VMs are kept apart';
  }
}

/** One network as lines of `key: value`. */
export function networkText(network: NetworkView): string {
  const lines: [string, string | undefined][] = [
    ['Name', network.name],
    ['Kind', networkKindText(network)],
    ['Subnet', network.subnet],
    ['Gateway', network.gateway],
    ['Bridge', network.bridge],
    ['Created', network.createdAt],
    ...network.vms.map(({ name, address }): [string, string] => [
      'VM',
      address === undefined ? name : `${name}, as ${address}`,
    ]),
  ];
  return lines
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${`${key}:`.padEnd(12)}${printable(value!)}`)
    .join('\n');
}
