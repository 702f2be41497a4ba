import { expect, test } from 'vitest';
import type { HostSetup } from '../../../src/host/setup/host-setup.ts';
import type { SetupPlaces } from '../../../src/host/setup/places.ts';
import { planSetup, type SetupRequest } from '../../../src/host/setup/plan-setup.ts';

const places: SetupPlaces = {
  configDirectory: '/etc/banger',
  unitDirectory: '/etc/systemd/system',
  forwarding: { markers: '/run/banger' },
  hasSystemd: true,
  systemRoot: '/',
};
const user = { uid: 1000, name: 'ann' };

function plan(request: Partial<SetupRequest>, before?: HostSetup): HostSetup {
  return planSetup(
    { user, shared: [], ...request },
    { before, others: [], routes: [], places, resolver: 'other' },
  ).setup;
}
const room = ({ networks }: HostSetup) =>
  Object.fromEntries(networks.map(({ name, addresses }) => [name, addresses.length]));

test('whoever does not say how many taps keeps those that there are, for new networks too', () => {
  expect(room(plan({}))).toEqual({ bridge: 8 });
  const many = plan({ taps: 32 });
  expect(room(plan({}, many))).toEqual({ bridge: 32 });
  expect(room(plan({ shared: ['lab'] }, many))).toEqual({ bridge: 32, lab: 32 });
  expect(room(plan({ shared: ['lab'] }, plan({ taps: 2 })))).toEqual({ bridge: 2, lab: 8 });
  expect(room(plan({ taps: 4 }, many))).toEqual({ bridge: 4 });
});

test.each(['bridge', 'user', 'none', 'host'])('no network is made that is called "%s"', (name) => {
  expect(() => plan({ shared: [name] })).toThrow(`cannot be "${name}"`);
});

test('what an older banger set up under such a name goes, and its "bridge" keeps VMs apart again', () => {
  const good = plan({ shared: ['lab'] });
  const [bridge, lab] = good.networks;
  const networks = [
    { ...bridge!, isShared: true },
    { ...lab!, name: 'user' },
  ];
  const again = plan({}, { ...good, networks });
  expect(again.networks).toEqual([bridge]);
});
