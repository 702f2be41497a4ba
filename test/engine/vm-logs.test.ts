import { appendFileSync, statSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { stopVm } from '../../src/engine/lifecycle/stop-vm.ts';
import { startVm } from '../../src/engine/lifecycle/start-vm.ts';
import { keepVmLogs, LogKeeper } from '../../src/engine/log-keeper.ts';
import { sendVmLog } from '../../src/engine/vm-logs.ts';
import { vmPaths } from '../../src/state/layout.ts';
import type { Vm } from '../../src/state/vms.ts';
import { fakeEngine, type FakeEngine } from '../support/fake-engine.ts';
import { fakeOperation } from '../support/fakes.ts';
import { createTestVm } from '../support/vm-world.ts';

let engine: FakeEngine;
let context: FakeEngine['context'];
let vm: Vm;
let path: string;
const limit = 1000;

beforeEach(async () => {
  engine = fakeEngine();
  const logs = new LogKeeper({ limitBytes: () => limit, log: engine.context.log, lookAfterMs: 1 });
  context = { ...engine.context, logs };
  vm = await createTestVm(engine);
  path = vmPaths(context.layout, vm.id).consoleLog;
  writeFileSync(path, 'one\ntwo\nthree\n');
  writeFileSync(context.layout.engineLog, '');
});
afterEach(async () => {
  context.logs.close();
  await engine.close();
});

type Request = Parameters<typeof sendVmLog>[1];

function read(request: Partial<Request> = {}, signal = new AbortController().signal) {
  let text = '';
  const stream = {
    send: async (_: string, payload: Buffer | string = '') => {
      text += payload.toString();
    },
  };
  const whole = { source: 'console', follow: false, ...request, vm } as const;
  const done = sendVmLog(context, whole, { signal, stream });
  return { done, text: () => text };
}

async function readAll(request: Partial<Request>): Promise<string> {
  const reading = read(request);
  await reading.done;
  return reading.text();
}

const isCut = () => vi.waitFor(() => expect(statSync(path).size).toBe(0), 30_000);

test('all of a log, or its last lines', async () => {
  expect(await readAll({})).toBe('one\ntwo\nthree\n');
  expect(await readAll({ tail: 2 })).toBe('two\nthree\n');
  expect(await readAll({ tail: 0 })).toBe('');
  await expect(readAll({ since: 0 })).rejects.toMatchObject({ code: 'invalid_argument' });
});

test('what a VMM and its network say beside its own log comes before that, and is none of its last lines', async () => {
  const { vmmLog } = vmPaths(context.layout, vm.id);
  writeFileSync(`${vmmLog}.stderr`, 'network\nup\n');
  expect(await readAll({ source: 'vmm' })).toBe('network\nup\n');
  expect(await readAll({ source: 'vmm', tail: 1 })).toBe('up\n');
  writeFileSync(vmmLog, 'running\n');
  expect(await readAll({ source: 'vmm' })).toBe('network\nup\nrunning\n');
  expect(await readAll({ source: 'vmm', tail: 2 })).toBe('running\n');
});

test('a follower loses nothing over cuts, and ends when the VM stops', async () => {
  keepVmLogs(context);
  const reading = read({ follow: true, tail: 1 });
  let expected = 'three\n';
  await vi.waitFor(() => expect(reading.text()).toBe(expected), 30_000);
  for (let round = 0; round < 5; round++) {
    const lines = `${round} ${'x'.repeat(100)}\n`.repeat(20);
    appendFileSync(path, lines.slice(0, limit));
    expected += lines.slice(0, limit);
    await vi.waitFor(() => expect(reading.text()).toBe(expected), 30_000);
    appendFileSync(path, lines.slice(limit));
    expected += lines.slice(limit);
    await isCut();
  }
  appendFileSync(path, 'last words');
  await stopVm(context, { id: vm.id, timeoutMs: 50 }, fakeOperation().operation);
  await reading.done;
  expect(reading.text()).toBe(`${expected}last words`);
});

test('a log of a VM that starts again is kept from then on, and one of a VM that stopped is not', async () => {
  keepVmLogs(context);
  await stopVm(context, { id: vm.id, timeoutMs: 50 }, fakeOperation().operation);
  await startVm(context, vm.id, fakeOperation().operation);
  appendFileSync(path, 'x'.repeat(limit));
  await isCut();
});

test('following a VM that does not run ends at once; a follower can be called off', async () => {
  const enough = new AbortController();
  const reading = read({ follow: true }, enough.signal);
  await vi.waitFor(() => expect(reading.text()).not.toBe(''), 30_000);
  enough.abort();
  await expect(reading.done).rejects.toThrow();
  await stopVm(context, { id: vm.id, timeoutMs: 50 }, fakeOperation().operation);
  expect(await readAll({ follow: true })).toBe('one\ntwo\nthree\n');
});

test("of the engine's log, lines about this VM, from a time on, the last ones, and as they come", async () => {
  const write = (about: string, minute: number, message: string): void =>
    appendFileSync(
      context.layout.engineLog,
      `${JSON.stringify({ time: `2030-01-01T00:0${minute}:00.000Z`, level: 'info', message, vm: about })}\n`,
    );
  write(vm.id, 1, 'first');
  write('f'.repeat(32), 2, `other than ${vm.id}`);
  appendFileSync(context.layout.engineLog, `Error: ${vm.id} crashed\n`);
  write(vm.id, 3, 'second');
  write(vm.id, 4, 'third');
  const messages = (text: string) =>
    text
      .split('\n')
      .slice(0, -1)
      .map((line) => (JSON.parse(line) as { message: string }).message);
  const ask = async (request: Partial<Request>) => messages(await readAll({ source: 'engine', ...request }));
  expect(await ask({})).toEqual(['first', 'second', 'third']);
  expect(await ask({ tail: 1 })).toEqual(['third']);
  expect(await ask({ since: Date.parse('2030-01-01T00:03:00Z') })).toEqual(['second', 'third']);

  const reading = read({ source: 'engine', follow: true, tail: 0 });
  await stopVm(context, { id: vm.id, timeoutMs: 50 }, fakeOperation().operation);
  write(vm.id, 5, 'after the stop');
  await reading.done;
  expect(messages(reading.text())).toEqual(['after the stop']);
});
