import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { BangerError } from '../../../src/errors.ts';
import type { EngineContext } from '../../../src/engine/context.ts';
import type { Guest } from '../../../src/engine/guest.ts';
import { deleteVm } from '../../../src/engine/lifecycle/delete-vm.ts';
import { stopVm } from '../../../src/engine/lifecycle/stop-vm.ts';
import { prepareWorkspace } from '../../../src/engine/workspace/prepare-workspace.ts';
import { isAlive } from '../../../src/host/process.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { createFakeGuest } from '../../support/fake-guest.ts';
import { fakeOperation } from '../../support/fakes.ts';
import { createRepo, makeTempDirectory } from '../../support/git-repo.ts';
import { createTestVm } from '../../support/vm-world.ts';
import { hermeticExec } from '../workspace/workspace-fixture.ts';

let engine: FakeEngine;
let directory: ReturnType<typeof makeTempDirectory>;
beforeEach(() => {
  engine = fakeEngine();
  directory = makeTempDirectory();
});
afterEach(async () => {
  await engine.close();
  directory.remove();
});

const operation = () => fakeOperation().operation;

/** An upload to "web" that has begun, and goes on until the connections to its guest are closed. */
async function startUpload(): Promise<{ context: EngineContext; preparing: Promise<unknown> }> {
  const repo = createRepo(join(directory.path, 'project'));
  repo.write('file', 'text\n');
  repo.commit('one');
  const uploading = Promise.withResolvers<void>();
  const connection = Promise.withResolvers<never>();
  connection.promise.catch(() => undefined);
  const { guest } = createFakeGuest();
  const runToolbox: Guest['runToolbox'] = (argv, options) => {
    if (!argv.some((word) => word.includes('tar -x'))) return guest.runToolbox(argv, options);
    uploading.resolve();
    return connection.promise;
  };
  const context: EngineContext = {
    ...engine.context,
    exec: hermeticExec,
    guest: async (vm, signal) => {
      const { powerOff } = await engine.context.guest(vm, signal);
      return { ...guest, runToolbox, powerOff };
    },
    guests: {
      ...engine.context.guests,
      drop: () => connection.reject(new BangerError('guest_unreachable', 'The connection was lost')),
    },
  };
  const params = {
    path: repo.path,
    vm: 'web',
    guestPath: join(directory.path, 'guest'),
    includeUntracked: false,
    include: [],
    overwrite: false,
    fullHistory: false,
    readonly: false,
  };
  const preparing = prepareWorkspace(context, params, operation(), () =>
    Promise.reject(new Error('the VM was named')),
  );
  // Whoever waits for it below hears of it.
  preparing.catch(() => undefined);
  await Promise.race([uploading.promise, preparing]);
  return { context, preparing };
}

test('a stop returns while a prepare uploads to the same VM, which is told that its guest has gone', async () => {
  const { id } = await createTestVm(engine);
  const { context, preparing } = await startUpload();
  const stopped = await stopVm(context, { id, timeoutMs: 5_000 }, operation());
  expect(stopped).toMatchObject({ flushed: true, vm: { state: 'stopped' } });
  await expect(preparing).rejects.toMatchObject({ code: 'guest_unreachable' });
  expect(isAlive(engine.vmms.get(id)!)).toBe(false);
});

test('so does a delete', async () => {
  const { id } = await createTestVm(engine);
  const { context, preparing } = await startUpload();
  await deleteVm(context, id, operation());
  await expect(preparing).rejects.toMatchObject({ code: 'guest_unreachable' });
});
