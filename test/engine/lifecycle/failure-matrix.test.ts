import { afterEach, beforeEach, expect, test } from 'vitest';
import { explainHostError } from '../../../src/errors.ts';
import type { Failure } from '../../../src/engine/failpoints.ts';
import { createVm } from '../../../src/engine/lifecycle/create-vm.ts';
import { deleteVm } from '../../../src/engine/lifecycle/delete-vm.ts';
import { startVm } from '../../../src/engine/lifecycle/start-vm.ts';
import { killVm } from '../../../src/engine/lifecycle/kill-vm.ts';
import { stopVm } from '../../../src/engine/lifecycle/stop-vm.ts';
import type { TimedOperation } from '../../../src/engine/operations.ts';
import { reconcile } from '../../../src/engine/reconciler.ts';
import { getVm } from '../../../src/state/vms.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { createTestVm, pointsOf, runWith, vmWorld } from '../../support/vm-world.ts';

/** A verb that is made to fail at every point that it passes, which a run without failures tells. */
interface Verb {
  readonly kind: string;
  /** State of the VM that it is used on */
  readonly from: 'none' | 'stopped' | 'running';
  readonly act: (engine: FakeEngine, id: string, operation: TimedOperation) => Promise<unknown>;
}

const params = { name: 'new', start: true, ephemeral: false };
const verbs: Record<string, Verb> = {
  create: { kind: 'vm.create', from: 'none', act: (engine, _, op) => createVm(engine.context, params, op) },
  'create --no-start': {
    kind: 'vm.create',
    from: 'none',
    act: (engine, _, op) => createVm(engine.context, { ...params, start: false }, op),
  },
  start: { kind: 'vm.start', from: 'stopped', act: (engine, id, op) => startVm(engine.context, id, op) },
  stop: {
    kind: 'vm.stop',
    from: 'running',
    act: (engine, id, op) => stopVm(engine.context, { id, timeoutMs: 50 }, op),
  },
  kill: { kind: 'vm.kill', from: 'running', act: (engine, id, op) => killVm(engine.context, id, op) },
  delete: { kind: 'vm.delete', from: 'running', act: (engine, id, op) => deleteVm(engine.context, id, op) },
};

let engines: FakeEngine[] = [];
beforeEach(() => (engines = []));
afterEach(() => Promise.all(engines.map((engine) => engine.close())));

/** An engine with a VM that nobody touches, and one in the state that the verb wants. */
async function openWorld({ from }: Verb): Promise<{ engine: FakeEngine; id: string }> {
  const engine = fakeEngine();
  engines.push(engine);
  await createTestVm(engine, { name: 'keeper' });
  if (from === 'none') return { engine, id: '' };
  const { id } = await createTestVm(engine, { name: 'web', start: from === 'running' });
  return { engine, id };
}

/** Points of a verb, and for each of them a world of its own in which it is about to be reached. */
async function* worldsOf(verb: Verb) {
  const { engine, id } = await openWorld(verb);
  const points = await pointsOf(verb.kind, (operation) => verb.act(engine, id, operation));
  expect(points.length).toBeGreaterThan(2);
  for (const point of points) yield { point, ...(await openWorld(verb)) };
}

const failures: readonly Failure[] = ['error', 'enospc', 'eacces', 'timeout'];
const reversible = ['create', 'create --no-start', 'start'] as const;
const oneWay = ['stop', 'kill', 'delete'] as const;

test.each(reversible.flatMap((name) => failures.map((failure) => [name, failure] as const)))(
  '%s that fails anywhere with %s leaves the host as it was',
  async (name, failure) => {
    const verb = verbs[name]!;
    for await (const { point, engine, id } of worldsOf(verb)) {
      const before = vmWorld(engine);
      const error = await runWith(
        verb.kind,
        (reached) => (reached === point ? failure : undefined),
        (operation) => verb.act(engine, id, operation),
      ).then(
        () => undefined,
        (thrown: Error) => thrown,
      );
      expect(error, point).toBeDefined();
      expect(vmWorld(engine), point).toEqual(before);
      expect(engine.log, point).toEqual([]);
      if (id !== '' && point !== 'vm.start/Starting VM:before')
        expect(getVm(engine.context.db, id).lastError, point).toBe(
          (explainHostError(error) ?? error!).message,
        );
    }
  },
);

test.each(reversible)(
  '%s that hangs anywhere can be cancelled, and leaves the host as it was',
  async (name) => {
    const verb = verbs[name]!;
    for await (const { point, engine, id } of worldsOf(verb)) {
      const before = vmWorld(engine);
      const cancel = new AbortController();
      const hangAndCancel = (reached: string): Failure | undefined => {
        if (reached !== point) return undefined;
        setImmediate(() => cancel.abort());
        return 'hang';
      };
      const act = (operation: TimedOperation) => verb.act(engine, id, operation);
      const outcome = await runWith(verb.kind, hangAndCancel, act, cancel.signal).then(
        () => 'done',
        (error: { code?: string }) => error.code,
      );
      expect(outcome, point).toBe('cancelled');
      expect(vmWorld(engine), point).toEqual(before);
    }
  },
);

test.each(oneWay.flatMap((name) => failures.map((failure) => [name, failure] as const)))(
  '%s that fails anywhere with %s leaves a row that is true, and does it when asked again',
  async (name, failure) => {
    const verb = verbs[name]!;
    for await (const { point, engine, id } of worldsOf(verb)) {
      const failing = runWith(
        verb.kind,
        (reached) => (reached === point ? failure : undefined),
        (operation) => verb.act(engine, id, operation),
      );
      await expect(failing, point).rejects.toThrow();
      const { states, vmms } = vmWorld(engine);
      const runs = vmms.includes('web');
      // A row in `deleting` owns whatever is left.
      const isTrue = states['web'] === 'deleting' || states['web'] === (runs ? 'running' : 'stopped');
      expect(isTrue, `${point}: ${states['web']}`).toBe(true);
      expect(states['keeper'], point).toBe('running');

      await runWith(
        verb.kind,
        () => undefined,
        (operation) => verb.act(engine, id, operation),
      );
      const gone = name === 'delete';
      expect(vmWorld(engine), point).toEqual({
        states: { keeper: 'running', ...(gone ? {} : { web: 'stopped' }) },
        directories: gone ? ['keeper'] : ['keeper', 'web'],
        vmms: ['keeper'],
        handles: ['keeper'],
        sockets: [],
      });
    }
  },
);

test.each(reversible)('%s whose undo fails too is finished by the next engine', async (name) => {
  const verb = verbs[name]!;
  for await (const { point, engine, id } of worldsOf(verb)) {
    const before = vmWorld(engine);
    const failing = runWith(
      verb.kind,
      (reached) => (reached === point ? 'error' : reached.endsWith(':undo') ? 'eacces' : undefined),
      (operation) => verb.act(engine, id, operation),
    );
    await expect(failing, point).rejects.toThrow('failpoint');
    await reconcile(engine.context);
    expect(vmWorld(engine), point).toEqual(before);
  }
});
