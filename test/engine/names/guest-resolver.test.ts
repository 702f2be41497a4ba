import { Resolver } from 'node:dns/promises';
import { expect, test, vi } from 'vitest';
import { openGuestResolver } from '../../../src/engine/names/guest-resolver.ts';
import { insertNetwork, takeAddress, type Network } from '../../../src/state/networks.ts';
import { parseEgress } from '../../../src/state/egress.ts';
import { changeVm, insertVm, moveVm } from '../../../src/state/vms.ts';
import { addVm } from '../../support/add-vm.ts';
import { fakeEngine, testImageId } from '../../support/fake-engine.ts';

test('guests are told of running VMs of their own network, and of others nothing, here or anywhere', async () => {
  const engine = fakeEngine();
  const { db } = engine.context;
  const add = (number: number, name: string): Network =>
    insertNetwork(db, {
      number,
      name,
      subnet: `10.213.${number}.0/24`,
      isShared: true,
      createdAt: '2026-01-01T00:00:00Z',
    });
  const [lab, other] = [add(1, 'lab'), add(2, 'other')];
  const run = (name: string, network: Network, host: number): void => {
    const template = addVm(engine.context, `t-${name}`, testImageId);
    const { id } = insertVm(db, { ...template, id: name.padEnd(32, '1'), name, network: network.name });
    takeAddress(db, id, { network, addresses: [`10.213.${network.number}.${host}`] });
    for (const state of ['stopped', 'starting', 'running'] as const) moveVm(db, id, state);
  };
  run('web', lab, 2);
  run('db', other, 2);
  const asked: string[] = [];
  const server = await openGuestResolver(engine.context, {
    network: 'lab',
    address: '127.0.0.1',
    port: 0,
    upstreams: async () => {
      asked.push('upstream');
      return [];
    },
  });
  const resolver = new Resolver({ timeout: 2000, tries: 1 });
  resolver.setServers([`127.0.0.1:${server.port}`]);
  const ask = (name: string): Promise<string[] | string> =>
    resolver.resolve4(name).catch((error: unknown) => (error as { code: string }).code);
  expect(await ask('web.vm')).toEqual(['10.213.1.2']);
  expect(await resolver.reverse('10.213.1.2')).toEqual(['web.vm']);
  expect(await ask('db.vm')).toBe('ENOTFOUND');
  // Those of other networks, too: whoever the host asks may know them.
  for (const address of ['10.213.2.2', '10.213.77.1'])
    await expect(resolver.reverse(address)).rejects.toMatchObject({ code: 'ENOTFOUND' });
  await expect(resolver.resolvePtr('2.213.10.in-addr.arpa')).rejects.toMatchObject({ code: 'ENODATA' });
  expect(asked).toEqual([]);
  // One with rules would tell whoever serves the domain what it likes.
  run('self', lab, 3);
  db.prepare(`UPDATE vm_addresses SET address = '127.0.0.1' WHERE address = '10.213.1.3'`).run();
  expect(await ask('example.org')).toBe('ESERVFAIL');
  changeVm(db, 'self'.padEnd(32, '1'), { egress: parseEgress(['example.org']) });
  expect([await ask('example.org'), await ask('web.vm')]).toEqual(['EREFUSED', ['10.213.1.2']]);
  expect(asked).toEqual(['upstream']);
  server.close();
  await engine.close();
});

test('however often guests ask, the database is read when something has changed in it', async () => {
  const engine = fakeEngine();
  const { db } = engine.context;
  const server = await openGuestResolver(engine.context, {
    network: 'lab',
    address: '127.0.0.1',
    port: 0,
    upstreams: () => Promise.resolve([]),
  });
  const resolver = new Resolver({ timeout: 2000, tries: 1 });
  resolver.setServers([`127.0.0.1:${server.port}`]);
  const prepared = vi.spyOn(db, 'prepare');
  const ask = async (): Promise<number> => {
    prepared.mockClear();
    for (let question = 0; question < 5; question++) await resolver.resolve4('web.vm').catch(() => []);
    await resolver.resolve4('example.org').catch(() => []);
    return prepared.mock.calls.length;
  };
  expect(await ask()).toBeGreaterThan(0);
  expect(await ask()).toBe(0);
  addVm(engine.context, 'web', testImageId);
  expect(await ask()).toBeGreaterThan(0);
  expect(await ask()).toBe(0);
  server.close();
  await engine.close();
});
