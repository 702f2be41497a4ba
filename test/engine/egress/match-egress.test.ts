import { afterEach, describe, expect, test, vi } from 'vitest';
import { adoptEgress } from '../../../src/engine/egress/match-egress.ts';
import { setVm, type SetVmParams } from '../../../src/engine/lifecycle/set-vm.ts';
import { applyBridges } from '../../../src/engine/network/bridges.ts';
import { egressWords, parseEgress } from '../../../src/state/egress.ts';
import { changeVm, getVm, type Vm } from '../../../src/state/vms.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { fakeOperation } from '../../support/fakes.ts';
import { createTestVm } from '../../support/vm-world.ts';

let engine: FakeEngine | undefined;
afterEach(() => engine?.close());

const context = () => engine!.context;
const open = (): FakeEngine => (engine = fakeEngine());

function change(from: FakeEngine, id: string, params: Partial<SetVmParams>) {
  const nothing = { removeLabels: [], publish: [], unpublish: [] };
  return setVm(from.context, { id, params: { ...nothing, ...params } }, fakeOperation().operation);
}

test('a VM with rules is started cut off, with its guest told of the proxy; one without is as ever', async () => {
  const { context, specs, toolboxRuns } = open();
  await createTestVm(engine!, { egress: ['git.example.org'] });
  expect(specs.at(-1)!.network.user!.reach).toBe('none');
  expect(toolboxRuns.at(-1)!.join(' ')).toContain('export https_proxy=http://127.0.0.1:1023');
  // This test's guests cannot be connected to: the VM runs, and reaches nothing.
  const vm = await createTestVm(engine!, { name: 'other' });
  expect(specs.at(-1)!.network.user!.reach).toBe('all');
  expect(context.egress.state(vm.id)).toBeUndefined();
});

test('rules take hold of a running VM, are added to and taken away, and end', async () => {
  const { context, machines } = open();
  const { id } = await createTestVm(engine!);
  const words = (): string[] => egressWords(getVm(context.db, id).egress);
  expect(machines.get(id)!.reach).toBe('all');
  const done = await change(engine!, id, { egress: ['a.org'] });
  expect([done.applied, words(), machines.get(id)!.reach]).toEqual([['egress'], ['a.org'], 'none']);
  await change(engine!, id, { egress: ['b.org'], egressChange: 'add' });
  expect(words()).toEqual(['a.org', 'b.org']);
  await change(engine!, id, { egress: ['a.org', 'b.org'], egressChange: 'remove' });
  expect([words(), machines.get(id)!.reach]).toEqual([['none'], 'none']);
  await expect(change(engine!, id, { egress: ['c.org'], egressChange: 'remove' })).rejects.toThrow(
    'no rule "c.org"',
  );
  await change(engine!, id, { egress: ['all'] });
  expect([words(), machines.get(id)!.reach, context.egress.state(id)]).toEqual([['all'], 'all', undefined]);
  await expect(change(engine!, id, { egress: ['c.org'], egressChange: 'add' })).rejects.toThrow(
    'Everything may be',
  );
});

test('a VM in use keeps its connections unless forced; one whose network stays as it is loses none', async () => {
  const { faults, machines } = open();
  const { id } = await createTestVm(engine!);
  faults.isBusy = true;
  await expect(change(engine!, id, { egress: ['none'] })).rejects.toMatchObject({ code: 'busy' });
  expect(machines.get(id)!.reach).toBe('all');
  await change(engine!, id, { egress: ['none'], force: true });
  expect(machines.get(id)!.reach).toBe('none');
  await change(engine!, id, { egress: ['a.org'] });
});

describe.each(['user', 'bridge'])(
  'on network "%s", killed before a guest was told of a change',
  (network) => {
    /** As an engine leaves it that dies once row, rules and VMM are changed. */
    async function cutShort(): Promise<Vm> {
      const { context, machines } = open();
      const { id } = await createTestVm(engine!, { network });
      changeVm(context.db, id, { egress: parseEgress(['none']) });
      machines.get(id)!.reach = 'none';
      await applyBridges(context);
      return getVm(context.db, id);
    }
    const lastTold = () => engine!.toolboxRuns.at(-1)?.join(' ') ?? '';

    test('saying it again tells it', async () => {
      const { id } = await cutShort();
      await context()
        .egress.match(getVm(context().db, id))
        .catch(() => undefined);
      await change(engine!, id, { egress: ['none'] });
      expect(lastTold()).toContain('route del default');
      const { length } = engine!.toolboxRuns;
      await change(engine!, id, { egress: ['a.org'] });
      // Of other rules it knows nothing, and need not.
      expect(engine!.toolboxRuns).toHaveLength(length);
    });

    test('the next engine tells it', async () => {
      const vm = await cutShort();
      // The way to this test's guests cannot be had: a guest is told after that.
      vi.spyOn(context().egress, 'match').mockResolvedValue();
      await adoptEgress(context(), vm);
      await expect.poll(lastTold).toContain('route del default');
      await expect.poll(() => context().handles.get(vm.id)?.toldEgress).toBe('rules');
    });
  },
);

test('a change that fails leaves row and network as they were', async () => {
  const { context, faults, machines } = open();
  const { id } = await createTestVm(engine!);
  faults.control = new Error('the VMM does not answer');
  await expect(change(engine!, id, { egress: ['none'] })).rejects.toThrow('does not answer');
  expect([egressWords(getVm(context.db, id).egress), machines.get(id)!.reach]).toEqual([['all'], 'all']);
});

test.each([
  [{ network: 'none', egress: ['a.org'] }, 'without a network'],
  [{ egress: ['a.org:53/udp'] }, 'only TCP passes'],
  [{ egress: ['10.1.2.3/8'] }, 'write "10.0.0.0/8"'],
])('%j is refused before anything is made', async (params, why) => {
  const { specs } = open();
  await expect(createTestVm(engine!, params)).rejects.toThrow(why);
  expect(specs).toEqual([]);
});
