import { afterEach, beforeEach, expect, test } from 'vitest';
import { NetworkNames } from '../../../src/engine/names/network-names.ts';
import { insertNetwork, takeAddress, type Network } from '../../../src/state/networks.ts';
import { insertVm, moveVm } from '../../../src/state/vms.ts';
import { addVm } from '../../support/add-vm.ts';
import { fakeEngine, testImageId, type FakeEngine } from '../../support/fake-engine.ts';

let engine: FakeEngine;
/** Where is listened now */
let open: string[];
let failure: Error | undefined;
let names: NetworkNames;

beforeEach(() => {
  engine = fakeEngine();
  open = [];
  failure = undefined;
  names = new NetworkNames(engine.context, async ({ network, address, port }) => {
    if (failure) throw failure;
    const place = `${network} ${address}:${port}`;
    open.push(place);
    return { address, close: () => void (open = open.filter((each) => each !== place)) };
  });
});
afterEach(async () => {
  await names.close();
  await engine.close();
});

function addNetwork(number: number, name: string, isShared: boolean): Network {
  const createdAt = '2026-01-01T00:00:00Z';
  return insertNetwork(engine.context.db, {
    number,
    name,
    subnet: `10.213.${number}.0/24`,
    isShared,
    createdAt,
  });
}

function run(name: string, network: Network): string {
  const { db } = engine.context;
  const template = addVm(engine.context, `t-${name}`, testImageId);
  const { id } = insertVm(db, { ...template, id: name.padEnd(32, '1'), name, network: network.name });
  takeAddress(db, id, { network, addresses: [2, 3].map((n) => `10.213.${network.number}.${n}`) });
  for (const state of ['stopped', 'starting', 'running'] as const) moveVm(db, id, state);
  return id;
}

function stop(id: string): void {
  for (const state of ['stopping', 'stopped'] as const) moveVm(engine.context.db, id, state);
}

test('a shared network is answered on while a VM of it runs; one whose VMs are kept apart never is', async () => {
  const [lab, apart] = [addNetwork(1, 'lab', true), addNetwork(2, 'bridge', false)];
  await names.look();
  expect(open).toEqual([]);
  const [one, two] = [run('one', lab), run('two', lab)];
  run('alone', apart);
  await names.look();
  expect(open).toEqual(['lab 10.213.1.1:10053']);
  stop(one);
  await names.look();
  expect(open).toEqual(['lab 10.213.1.1:10053']);
  stop(two);
  await names.look();
  expect(open).toEqual([]);
});

test('an address that cannot be listened on is told once, harms no other network, and is tried again', async () => {
  run('one', addNetwork(1, 'lab', true));
  failure = Object.assign(new Error('taken'), { code: 'EADDRINUSE' });
  await names.look();
  await names.look();
  expect(open).toEqual([]);
  failure = undefined;
  run('other', addNetwork(3, 'more', true));
  await names.look();
  expect(open).toEqual(['lab 10.213.1.1:10053', 'more 10.213.3.1:10053']);
});

test('nothing is listened on any more once it is closed, whatever happens afterwards', async () => {
  const lab = addNetwork(1, 'lab', true);
  run('one', lab);
  await names.look();
  await names.close();
  expect(open).toEqual([]);
  await names.look();
  expect(open).toEqual([]);
});
