import { expect, test } from 'vitest';
import { checkDefaultNetwork } from '../../../src/host/doctor/default-network.ts';
import { pass, skip, warn } from '../../../src/host/doctor/check.ts';

const bridges = { id: 'bridges', title: 'Bridges' };
const allowed = [pass(bridges, 'made when VMs need them')];

test('VMs are on what every host allows, and it is said why', () => {
  expect(checkDefaultNetwork('user', [])).toMatchObject({
    id: 'default-network',
    status: 'pass',
    evidence: expect.stringContaining('"user", which takes no rights') as string,
  });
});

test('what the configuration says is taken where the host allows it', () => {
  const evidence = (name: string) => `VMs are on "${name}", as the configuration says`;
  for (const name of ['bridge', 'lab'])
    expect(checkDefaultNetwork(name, allowed)).toMatchObject({ status: 'pass', evidence: evidence(name) });
  expect(checkDefaultNetwork('none', [])).toMatchObject({ status: 'pass', evidence: evidence('none') });
});

test('where the host does not allow it the reason is told, and what helps', () => {
  expect(checkDefaultNetwork('bridge', [skip(bridges, 'not for this user, without root')])).toMatchObject({
    status: 'fail',
    evidence:
      'VMs are on "bridge", as the configuration says, which this host does not allow: not for this user, without root',
    fix: expect.stringContaining('sudo banger host setup') as string,
  });
  const missing = warn(bridges, '"ip" is not installed', 'Install it with: sudo apt-get install iproute2');
  expect(checkDefaultNetwork('lab', [missing]).fix).toBe('Install it with: sudo apt-get install iproute2');
});
