import { expect, test } from 'vitest';
import { planBridges, planSurplusBridges, planTaps, type Link } from '../../../src/host/network/links.ts';
import { networkOwner, type HostNetwork } from '../../../src/host/network/plan.ts';

const owner = { ...networkOwner('/state', 501), tag: '1a2b' };
const network: HostNetwork = {
  owner,
  bridges: [{ number: 1, subnet: '10.213.1.0/24', isShared: false, guests: ['10.213.1.2'], spare: [] }],
};
const nothing: HostNetwork = { owner, bridges: [] };

function link(name: string, more: Partial<Link> = {}): Link {
  const kind = name.startsWith('bgb') ? 'bridge' : 'tun';
  return { name, kind, alias: owner.alias, isUp: true, isIsolated: false, addresses: [], ...more };
}
const bridge = link('bgb1a2b-1', { addresses: ['10.213.1.1/24'] });
const tap = link('bgt1a2b-1-2', { master: 'bgb1a2b-1', isIsolated: true });

test('what is as it is to be is left alone', () => {
  expect([...planBridges(network, [bridge]), ...planTaps(network, [bridge, tap])]).toEqual([]);
});

test('a tap belongs to the user whose engine it is, since one without an owner would be anybody’s', () => {
  expect(planTaps(network, [bridge])[0]).toBe('tuntap add dev bgt1a2b-1-2 mode tap user 501');
});

test('with taps of both kinds each guest has two, and both go when nobody needs them', () => {
  const both = { owner, bridges: [{ ...network.bridges[0]!, hasHeldTaps: true }] };
  const held = link('bgh1a2b-1-2', { master: 'bgb1a2b-1', isIsolated: true });
  expect(planTaps(both, [bridge, tap])[0]).toBe('tuntap add dev bgh1a2b-1-2 mode tap user 501');
  expect(planTaps(both, [bridge, tap, held])).toEqual([]);
  expect(planTaps(nothing, [tap, held])).toEqual([
    'link delete dev bgt1a2b-1-2',
    'link delete dev bgh1a2b-1-2',
  ]);
});

test('what was cut short halfway is finished', () => {
  expect(planBridges(network, [{ ...bridge, alias: undefined, isUp: false, addresses: [] }])).toEqual([
    `link set dev bgb1a2b-1 alias ${owner.alias}`,
    'link set dev bgb1a2b-1 addrgenmode none',
    'link set dev bgb1a2b-1 up',
    'address replace 10.213.1.1/24 dev bgb1a2b-1',
  ]);
  expect(planTaps(network, [{ ...tap, isIsolated: false }])).toContain(
    'link set dev bgt1a2b-1-2 type bridge_slave isolated on',
  );
});

test('what nobody needs goes, and nothing that is not ours', () => {
  const others = [
    link('bgt1a2b-1-9', { alias: 'somebody else’s' }),
    link('bgt9999-1-2'),
    link('docker0', { kind: 'bridge', alias: undefined }),
  ];
  expect(planTaps(nothing, [bridge, tap, ...others])).toEqual(['link delete dev bgt1a2b-1-2']);
  expect(planSurplusBridges(nothing, [bridge, tap, ...others])).toEqual(['link delete dev bgb1a2b-1']);
});

test.each([
  ['bridge', () => planBridges(network, [{ ...bridge, alias: 'mine' }])],
  ['bridge', () => planBridges(network, [{ ...bridge, kind: 'dummy' }])],
  ['tap', () => planTaps(network, [bridge, { ...tap, alias: 'mine' }])],
])('a %s that is somebody else’s but has our name is refused', (_kind, plan) => {
  expect(plan).toThrow('is not ours, but has our name');
});

test('a user that is none gets into no command', () => {
  const wrong = { ...network, owner: { ...owner, uid: Number.NaN } };
  expect(() => planTaps(wrong, [bridge])).toThrow('is no user id');
});
