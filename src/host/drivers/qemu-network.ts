import { accessCard, type VmmNetwork } from './driver.ts';
import { cardPort, forwardRule, hubPort, userNetwork } from './qemu-control.ts';

const tapNetwork = 'tap';

/**
 * The part of a QEMU's command line that makes the guest's network cards. `model` is the card's device, `options` what
 * each of them is given. The user network comes first: by the first `-netdev` forwards are found again.
 */
export function networkArguments(
  { user, tap }: VmmNetwork,
  card: { readonly model: string; readonly options: string },
): string[] {
  const device = (network: string, mac?: string): string[] => [
    '-device',
    `${card.model},netdev=${network}${mac === undefined ? '' : `,mac=${mac}`}${card.options}`,
  ];
  const userOptions = [
    `user,id=${userNetwork}`,
    ...(tap ? [accessNetwork] : []),
    // One protocol less that it has to be sure of.
    ...(user?.reach === 'none' ? [...(tap ? [] : ['ipv6=off']), 'restrict=on'] : []),
    ...(user?.forwards ?? []).map((port) => `hostfwd=${forwardRule(port)}`),
  ];
  return [
    ...(user ? ['-netdev', userOptions.join(',')] : []),
    // No scripts: whoever made the tap has connected it, and QEMU may start no programs.
    ...(tap ? ['-netdev', `tap,id=${tapNetwork},ifname=${tap.tap},script=no,downscript=no`] : []),
    ...(tap ? device(tapNetwork, tap.mac) : []),
    ...(user && tap ? device(userNetwork, accessCard.mac) : []),
    ...(user && !tap ? [...hub, ...device(cardPort)] : []),
  ];
}

/**
 * Between the only card and the user network, so that the network can be replaced by another one while the guest
 * runs (`setReach`): a card that loses what it was made for gets nothing else. It carries as much as without.
 */
const hub = [
  '-netdev',
  `hubport,id=${hubPort},hubid=0,netdev=${userNetwork}`,
  '-netdev',
  `hubport,id=${cardPort},hubid=0`,
];

const accessNetwork = [
  `net=${accessCard.network}`,
  `host=${accessCard.host}`,
  `dhcpstart=${accessCard.address.split('/')[0]}`,
  // A router advertisement would give the guest a second way out.
  'ipv6=off',
].join(',');
