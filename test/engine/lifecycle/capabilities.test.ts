import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { EngineContext } from '../../../src/engine/context.ts';
import type { Capability } from '../../../src/engine/lifecycle/capabilities.ts';
import { createVm } from '../../../src/engine/lifecycle/create-vm.ts';
import { deleteVm } from '../../../src/engine/lifecycle/delete-vm.ts';
import { BangerError } from '../../../src/errors.ts';
import { vmPaths } from '../../../src/state/layout.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { fakeOperation } from '../../support/fakes.ts';
import { vmWorld } from '../../support/vm-world.ts';

let engine: FakeEngine;
let called: string[];
beforeEach(() => {
  engine = fakeEngine();
  called = [];
});
afterEach(() => engine.close());

/** A feature that no verb knows: it keeps a file on the host and tells the guest where its lamp is. */
const lamp = (extra: Partial<Capability> = {}): Capability => ({
  name: 'lamp',
  preflight: async () => void called.push('preflight'),
  prepareHost: async (context, vm) => {
    called.push('prepareHost');
    writeFileSync(lampFile(context, vm.id), 'on');
  },
  configureGuest: async () => {
    called.push('configureGuest');
    return { conf: { LAMP: 'on' } };
  },
  afterStart: async () => void called.push('afterStart'),
  cleanUp: async (context, vm) => {
    called.push('cleanUp');
    rmSync(lampFile(context, vm.id), { force: true });
  },
  ...extra,
});
const lampFile = ({ layout }: EngineContext, id: string): string => join(layout.stateDirectory, `lamp-${id}`);

const contextWith = (capability: Capability): EngineContext => ({
  ...engine.context,
  capabilities: [...engine.context.capabilities, capability],
});
const create = (context: EngineContext) =>
  createVm(context, { name: 'web', start: true, ephemeral: false }, fakeOperation().operation);

test('a new capability plugs in: its hooks are called, its words reach the guest, and it cleans up', async () => {
  const context = contextWith(lamp());
  const { id } = await create(context);
  expect(called).toEqual(['preflight', 'prepareHost', 'configureGuest', 'afterStart']);
  expect(readFileSync(vmPaths(context.layout, id).initrd, 'latin1')).toContain('LAMP=on\n');
  expect(existsSync(lampFile(context, id))).toBe(true);

  await deleteVm(context, id, fakeOperation().operation);
  expect(called.at(-1)).toBe('cleanUp');
  expect(existsSync(lampFile(context, id))).toBe(false);
});

test('one that refuses does so before anything is made', async () => {
  const refuse = async (): Promise<void> => {
    throw new BangerError('host_unsupported', 'This host has no lamp');
  };
  const before = vmWorld(engine);
  await expect(create(contextWith(lamp({ preflight: refuse })))).rejects.toThrow('no lamp');
  expect(called).toEqual([]);
  expect(vmWorld(engine)).toEqual(before);
});

test.each(['prepareHost', 'configureGuest', 'afterStart'] as const)(
  'when its %s fails, the VM is taken back, and it cleans up',
  async (hook) => {
    const fail = async (): Promise<never> => {
      throw new Error('the lamp broke');
    };
    const before = vmWorld(engine);
    await expect(create(contextWith(lamp({ [hook]: fail })))).rejects.toThrow('the lamp broke');
    expect(called.at(-1)).toBe('cleanUp');
    expect(vmWorld(engine)).toEqual(before);
  },
);
