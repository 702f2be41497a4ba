import { readdirSync, readFileSync, statSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Capability } from '../../../src/engine/lifecycle/capabilities.ts';
import { createVm } from '../../../src/engine/lifecycle/create-vm.ts';
import { isAlive } from '../../../src/host/process.ts';
import { findFreePort } from '../../../src/host/ports.ts';
import { parseConfig } from '../../../src/state/config.ts';
import { vmPaths } from '../../../src/state/layout.ts';
import { listVms } from '../../../src/state/vms.ts';
import { fakeEngine, unreachable, type FakeEngine, type Faults } from '../../support/fake-engine.ts';
import { fakeOperation } from '../../support/fakes.ts';

let engine: FakeEngine;

beforeEach(() => {
  engine = fakeEngine();
});
afterEach(() => engine.close());

const params = { name: 'web', start: true, ephemeral: false };
const create = (extra = {}) => createVm(engine.context, { ...params, ...extra }, fakeOperation().operation);

/** What there is of VMs on the host and in the database. */
function remains(): { rows: number; directories: string[]; vmms: number } {
  const directories = (() => {
    try {
      return readdirSync(engine.context.layout.vmsDirectory);
    } catch {
      return [];
    }
  })();
  return {
    rows: listVms(engine.context.db).length,
    directories,
    vmms: [...engine.vmms.values()].filter(isAlive).length,
  };
}

test('a created VM runs, with its handles on disk and its files private', async () => {
  const vm = await create();
  expect(vm).toMatchObject({ name: 'web', state: 'running' });
  const paths = vmPaths(engine.context.layout, vm.id);
  expect(JSON.parse(readFileSync(paths.handles, 'utf8'))).toMatchObject({
    guestBootId: 'b00t',
    driver: 'qemu',
  });
  for (const path of [paths.handles, paths.hostKey, paths.initrd, paths.disk('qcow2')]) {
    expect(statSync(path).mode & 0o077, path).toBe(0);
  }
});

test("the guest gets its name, its keys and the image's environment in its own initramfs", async () => {
  const vm = await create();
  const initrd = readFileSync(vmPaths(engine.context.layout, vm.id).initrd, 'latin1');
  expect(initrd).toContain('HOSTNAME=web\n');
  expect(initrd).toContain(`WORKDIR='/srv/it'\\''s'\n`);
  expect(initrd).toContain(`export GREETING='it'\\''s me'\n`);
  expect(initrd).toContain('root/.ssh/authorized_keys');
});

test('a variable of the image that no shell can have is left out, and said', async () => {
  const notes: string[] = [];
  const operation = { ...fakeOperation().operation, note: (sentence: string) => void notes.push(sentence) };
  const vm = await createVm(engine.context, params, operation);
  expect(notes).toEqual(['Warning: Variables of image "test" that a shell cannot have are left out: my.app']);
  expect(readFileSync(vmPaths(engine.context.layout, vm.id).initrd, 'latin1')).not.toContain('my.app');
});

const failures: [string, Faults][] = [
  ['its disk cannot be made', { disk: new Error('no space left') }],
  ['no VMM can be used', { choice: new Error('no KVM') }],
  ['its VMM does not start', { spawn: new Error('no memory') }],
  ['its guest reports an error', { console: 'banger-error stage=root no root disk\n' }],
  ['its guest ends without a word', { console: '' }],
  ['its guest does not answer', { connect: unreachable }],
];

test.each(failures)('when %s, nothing is left of the VM', async (_, faults) => {
  Object.assign(engine.faults, faults);
  await expect(create()).rejects.toThrow();
  expect(remains()).toEqual({ rows: 0, directories: [], vmms: 0 });
});

test.each([0, 1, 2, 3, 4, 5, 6])('cancelled at stage %i, nothing is left of the VM', async (at) => {
  const { operation, cancel } = fakeOperation();
  let stage = 0;
  const cancelling = {
    ...operation,
    enter: () => {
      if (stage++ === at) cancel();
    },
  };
  await expect(createVm(engine.context, params, cancelling)).rejects.toMatchObject({ code: 'cancelled' });
  expect(remains()).toEqual({ rows: 0, directories: [], vmms: 0 });
});

test('of twenty that want one name, one gets it, and the others leave nothing', async () => {
  const outcomes = await Promise.allSettled(Array.from({ length: 20 }, () => create()));
  const reasons = outcomes
    .filter((one) => one.status === 'rejected')
    .map((one) => one.reason as { code: string });
  expect(reasons.map((reason) => reason.code)).toEqual(Array.from({ length: 19 }, () => 'already_exists'));
  expect(remains()).toMatchObject({ rows: 1, vmms: 1 });
  expect(remains().directories).toHaveLength(1);
});

test('creates of different VMs boot at the same time', async () => {
  const both = Promise.withResolvers<void>();
  let booting = 0;
  const chooseVmm = async () => {
    booting++;
    if (booting === 2) both.resolve();
    await both.promise;
    return engine.context.chooseVmm({ network: 'user', disk: 'qcow2', cpus: 1 });
  };
  const context = { ...engine.context, chooseVmm };
  const one = createVm(context, { ...params, name: 'a' }, fakeOperation().operation);
  const other = createVm(context, { ...params, name: 'b' }, fakeOperation().operation);
  expect((await Promise.all([one, other])).map((vm) => vm.state)).toEqual(['running', 'running']);
});

test('a port that was taken meanwhile is replaced by another', async () => {
  const { BangerError } = await import('../../../src/errors.ts');
  const driver = engine.context.driver('qemu');
  let attempts = 0;
  const context: typeof engine.context = {
    ...engine.context,
    driver: () => ({
      ...driver,
      start: (spec, signal) => {
        attempts++;
        if (attempts < 3) return Promise.reject(new BangerError('busy', 'taken'));
        return driver.start(spec, signal);
      },
    }),
  };
  expect((await createVm(context, params, fakeOperation().operation)).state).toBe('running');
  expect(attempts).toBe(3);
});

test.each([
  [{ cpus: 10_000 }, 'CPUs are too many'],
  [{ diskBytes: 5 * 1024 ** 4 }, 'A disk of 5 TiB is too large: the filesystem of a VM grows up to 4 TiB'],
  [{ memoryMib: 100_000_000 }, 'of memory is too much'],
  [{ memoryMib: 16 }, 'is too little'],
  [{ diskBytes: 1 }, "too small for the image's filesystem"],
])('a size of %j is refused before anything is made', async (size, words) => {
  await expect(create(size)).rejects.toThrow(words);
  expect(remains()).toEqual({ rows: 0, directories: [], vmms: 0 });
});

test('its disk may move as much in a second as the configuration says at its start', async () => {
  const config = parseConfig('[vm]\nimage = "test"\nmemory = "128M"\n[disk]\nrate = "5M"\n', 'c');
  Object.assign(engine.context, { config: () => config });
  await createVm(engine.context, { name: 'slow', start: true, ephemeral: false }, fakeOperation().operation);
  expect(engine.specs[0]!.disk).toMatchObject({ bytesPerSecond: 5 * 1024 ** 2 });
});

test('a port that another VM gets while the image is looked for is another, unless the user insists on it', async () => {
  /** Makes one VM while another that wants the same is past its plan. */
  const createBetween = async (extra: object) => {
    const meanwhile: Capability = { name: 'meanwhile', checkRequest: async () => void (await create(extra)) };
    const capabilities = [...engine.context.capabilities, meanwhile];
    const context = { ...engine.context, capabilities };
    return createVm(context, { ...params, ...extra, name: undefined }, fakeOperation().operation);
  };
  const wish = { protocol: 'tcp', bind: '127.0.0.1', guestPort: 80, hostPort: await findFreePort() } as const;
  const vm = await createBetween({ name: 'first', publish: [{ ...wish, prefersHostPort: true }] });
  expect(vm.ports).toMatchObject([{ guestPort: 80, chosen: true }]);
  const owners = listVms(engine.context.db).filter(({ ports }) => ports[0]?.hostPort === wish.hostPort);
  expect(owners).toMatchObject([{ name: 'first' }]);
  const next = { ...wish, hostPort: await findFreePort() };
  await expect(createBetween({ name: 'second', start: false, publish: [next] })).rejects.toMatchObject({
    code: 'already_exists',
    message: `Port 127.0.0.1:${next.hostPort}/tcp belongs to VM "second"`,
  });
});
