import { statSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { EngineContext } from '../../../src/engine/context.ts';
import { createVm } from '../../../src/engine/lifecycle/create-vm.ts';
import { setVm } from '../../../src/engine/lifecycle/set-vm.ts';
import { startVm } from '../../../src/engine/lifecycle/start-vm.ts';
import { exec as realExec } from '../../../src/host/exec.ts';
import { parseConfig } from '../../../src/state/config.ts';
import { changeVm, getVm } from '../../../src/state/vms.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { fakeOperation } from '../../support/fakes.ts';

const mib = 1024 ** 2;

let engine: FakeEngine;
beforeEach(() => {
  engine = fakeEngine();
});
afterEach(() => engine.close());

const operation = () => fakeOperation().operation;

/** An engine that makes disks by copying, and notes how large each is when its VMM is started on it. */
function copyingEngine() {
  const sizes: number[] = [];
  const context: EngineContext = {
    ...engine.context,
    config: () =>
      parseConfig('[vm]\nimage = "test"\nmemory = "128M"\n[disk]\nmethod = "copy"\n', 'config.toml'),
    exec: (argv, options) => (argv[0] === 'cp' ? realExec : engine.context.exec)(argv, options),
    driver: (name) => {
      const driver = engine.context.driver(name);
      return {
        ...driver,
        start: (spec, signal) => {
          sizes.push(statSync(spec.disk!.path).size);
          return driver.start(spec, signal);
        },
      };
    },
  };
  const create = () =>
    createVm(context, { name: 'web', start: false, ephemeral: false, diskBytes: 64 * mib }, operation());
  return { context, sizes, create };
}

test('a stopped VM whose disk was made larger has it that large when its VMM is started', async () => {
  const { context, sizes, create } = copyingEngine();
  const { id } = await create();
  await setVm(
    context,
    { id, params: { removeLabels: [], publish: [], unpublish: [], diskBytes: 96 * mib } },
    operation(),
  );
  expect(getVm(context.db, id).diskBytes).toBe(96 * mib);
  await startVm(context, id, operation());
  expect(sizes).toEqual([96 * mib]);
  expect(engine.specs.at(-1)?.disk?.format).toBe('raw');
});

test('a disk that was recorded as larger by an engine that died is made so by the start', async () => {
  const { context, sizes, create } = copyingEngine();
  const { id } = await create();
  changeVm(context.db, id, { diskBytes: 80 * mib });
  await startVm(context, id, operation());
  expect(sizes).toEqual([80 * mib]);
});
