import { createSocket } from 'node:dgram';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { EngineContext } from '../../src/engine/context.ts';
import { EgressKeeper } from '../../src/engine/egress/egress-keeper.ts';
import { HandleCache } from '../../src/engine/handles.ts';
import { createVm } from '../../src/engine/lifecycle/create-vm.ts';
import { deleteVm } from '../../src/engine/lifecycle/delete-vm.ts';
import { setVm, type SetVmParams } from '../../src/engine/lifecycle/set-vm.ts';
import { createLocks } from '../../src/engine/locks.ts';
import { makeNetwork } from '../../src/engine/network/bridges.ts';
import type { TimedOperation } from '../../src/engine/operations.ts';
import { DatagramKeeper } from '../../src/engine/ports/datagram-keeper.ts';
import { SocketKeeper } from '../../src/engine/ports/socket-keeper.ts';
import { reconcile } from '../../src/engine/reconciler.ts';
import { findFreePort } from '../../src/host/ports.ts';
import { egressWords } from '../../src/state/egress.ts';
import { vmPaths } from '../../src/state/layout.ts';
import { listVms } from '../../src/state/vms.ts';
import { fakeEngine, type FakeEngine } from '../support/fake-engine.ts';
import { fakeOperation } from '../support/fakes.ts';
import { canMakeLab, labReason, openNetworkLab, type NetworkLab } from '../support/network-lab.ts';
import { runWith } from '../support/vm-world.ts';

/** The others are those of every VM (see crash-matrix.test.ts). */
const concernsNetwork =
  /network |VMM started|row deleting|Recording changes:after|Publishing ports|Changing what/;

describe.skipIf(!canMakeLab)(`an engine that is killed while it changes a network${labReason}`, () => {
  let lab: NetworkLab;
  let engine: FakeEngine;
  /** The engine of now: each is killed, and has a next */
  let context: EngineContext;
  let udpPort: number;
  let tcpPort: number;

  beforeEach(async () => {
    lab = openNetworkLab();
    engine = fakeEngine();
    const { exec } = engine.context;
    context = {
      ...engine.context,
      // Interfaces and rules are real ones, in a namespace.
      exec: (argv, options) => (['ip', 'nft'].includes(argv[0]) ? lab.exec : exec)(argv, options),
    };
    nextEngine();
    udpPort = await findFreePort({ protocol: 'udp', bind: '127.0.0.1' });
    tcpPort = await findFreePort();
    await makeNetwork(context, { name: 'lab', isShared: true });
    await createVm(context, { name: 'keeper', network: 'lab', start: true, ephemeral: false }, operation());
    await make();
  });
  afterEach(async () => {
    context.datagrams.close();
    await engine.close();
    lab[Symbol.dispose]();
  });

  const operation = () => fakeOperation().operation;
  const find = (name: string) => listVms(context.db).find((vm) => vm.name === name);

  /** What was in the memory of the one before is gone, and what it was about to do is never done. */
  function nextEngine(): void {
    context.datagrams.close();
    context.egress.close();
    const next: EngineContext = {
      ...context,
      locks: createLocks(),
      handles: new HandleCache((id) => vmPaths(context.layout, id).handles),
      controls: new Map(),
      egress: new EgressKeeper(() => next),
      sockets: new SocketKeeper(() => next),
      datagrams: new DatagramKeeper(() => next),
    };
    context = next;
  }

  /** Rules, bridges and taps, addresses, routes, and where published ports lead in; of the taps that wait, how many. */
  async function host(): Promise<object> {
    const commands = ['nft list ruleset', 'ip -d -o link', 'ip -o -4 address', 'ip route'];
    const [rules = '', links = '', addresses = '', routes] = lab
      .run(['sh', '-c', commands.join('; echo ----; ')])
      .split('----\n');
    const ours = links
      .split('\n')
      .filter((line) => line.includes(': bg'))
      .map((line) => {
        const words = ['master', 'isolated'].map((word) => new RegExp(`${word} \\S+`).exec(line)?.[0]);
        return [/: (bg[^:]+)/.exec(line)![1]!, ...words, /[<,]UP[,>]/.test(line)] as const;
      });
    const isNamed = ([name]: (typeof ours)[number]): boolean =>
      name.startsWith('bgb') || rules.includes(`"${name}"`);
    return {
      rules,
      links: ours.filter(isNamed).toSorted(),
      waiting: ours.filter((link) => !isNamed(link)).length,
      addresses: addresses.replaceAll(/^\d+: /gm, ''),
      routes,
      led: [...engine.machines].flatMap(([id, { forwards }]) =>
        listVms(context.db).some((vm) => vm.id === id)
          ? forwards.filter(({ guestPort }) => guestPort !== 1022)
          : [],
      ),
      hearsDatagrams: await isTaken(udpPort),
    };
  }

  const row = (): unknown =>
    listVms(context.db).map(({ name, state, egress, ports }) => [name, state, egressWords(egress), ports]);

  /** Kills an engine at each point of `act` that concerns networks: the next makes of it what `row` says, all of it. */
  async function killEverywhere(
    kind: string,
    act: (operation: TimedOperation) => Promise<unknown>,
    undo: () => Promise<unknown>,
  ): Promise<string[]> {
    await undo();
    const [before, rowBefore] = [await host(), row()];
    const points: string[] = [];
    await runWith(kind, (point) => void points.push(point), act);
    const [after, rowAfter] = [await host(), row()];
    expect(after).not.toEqual(before);
    const killed: string[] = [];
    for (const point of points.filter((one) => concernsNetwork.test(one))) {
      await undo();
      const reached = Promise.withResolvers<void>();
      const hang = (one: string) => {
        if (one !== point) return undefined;
        reached.resolve();
        return 'hang' as const;
      };
      void runWith(kind, hang, act).catch(() => undefined);
      await reached.promise;
      nextEngine();
      await reconcile(context);
      const isAsked = JSON.stringify(row()) === JSON.stringify(rowAfter);
      expect([point, row()]).toEqual([point, isAsked ? rowAfter : rowBefore]);
      expect([point, await host()]).toEqual([point, isAsked ? after : before]);
      killed.push(point);
    }
    expect(engine.log.join('\n')).not.toMatch(/could not be/);
    return killed;
  }

  const make = (running = operation()): Promise<unknown> =>
    createVm(context, { name: 'web', network: 'bridge', start: true, ephemeral: false }, running);
  const remove = (running = operation()): Promise<unknown> => deleteVm(context, find('web')!.id, running);

  test('the first VM of a network is made with its bridge, tap and rules, or nothing of it is', async () => {
    const killed = await killEverywhere('vm.create', make, async () => find('web') && remove());
    for (const stage of ['bridges', 'rules', 'taps', 'forwarding'])
      expect(killed).toContain(`vm.create/network ${stage}`);
  });

  test('the last is deleted with all of them, in the end', async () => {
    const killed = await killEverywhere('vm.delete', remove, async () => find('web') ?? make());
    for (const stage of ['taps', 'rules', 'bridges', 'removed'])
      expect(killed).toContain(`vm.delete/network ${stage}`);
  });

  const set = (params: Partial<SetVmParams>) => (running: TimedOperation) =>
    setVm(
      context,
      { id: find('web')!.id, params: { removeLabels: [], publish: [], unpublish: [], ...params } },
      running,
    );

  test('rules of what a VM reaches hold, or do not yet, and go, or hold still', async () => {
    const [rules, all] = [set({ egress: ['git.example.org'] }), set({ egress: ['all'] })];
    const killed = await killEverywhere('vm.set', rules, () => runWith('undo', () => undefined, all));
    expect(killed).toContain('vm.set/network rules');
    await killEverywhere('vm.set', all, () => runWith('undo', () => undefined, rules));
  });

  test('a TCP and a UDP port are published both or neither, and taken back', async () => {
    const places = [
      { protocol: 'tcp', hostPort: tcpPort },
      { protocol: 'udp', hostPort: udpPort },
    ] as const;
    const add = set({
      publish: places.map((place) => ({ ...place, bind: '127.0.0.1', guestPort: 90 })),
    });
    const take = set({ unpublish: places });
    const undoing = (change: typeof add) => () => runWith('undo', () => undefined, change);
    const ifThere = async (): Promise<void> => {
      if (find('web')!.ports.length > 0) await undoing(take)();
    };
    const ifGone = async (): Promise<void> => {
      if (find('web')!.ports.length === 0) await undoing(add)();
    };
    await killEverywhere('vm.set', add, ifThere);
    await killEverywhere('vm.set', take, ifGone);
  });
});

async function isTaken(port: number): Promise<boolean> {
  const socket = createSocket('udp4');
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.bind({ port, address: '127.0.0.1', exclusive: true }, resolve);
    });
    return false;
  } catch {
    return true;
  } finally {
    socket.close();
  }
}
