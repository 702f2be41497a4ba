import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { BangerError } from '../../../src/errors.ts';
import type { EngineContext } from '../../../src/engine/context.ts';
import type { Guest } from '../../../src/engine/guest.ts';
import { deleteVm } from '../../../src/engine/lifecycle/delete-vm.ts';
import { startVm } from '../../../src/engine/lifecycle/start-vm.ts';
import { stopVm } from '../../../src/engine/lifecycle/stop-vm.ts';
import { prepareWorkspace } from '../../../src/engine/workspace/prepare-workspace.ts';
import { isAlive } from '../../../src/host/process.ts';
import { vmPaths } from '../../../src/state/layout.ts';
import { listWorkspaces } from '../../../src/state/workspaces.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { createFakeGuest } from '../../support/fake-guest.ts';
import { fakeOperation } from '../../support/fakes.ts';
import { createRepo, makeTempDirectory, openRepo, viewOf } from '../../support/git-repo.ts';
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

const projectPath = (): string => join(directory.path, 'project');
const guestPath = (): string => join(directory.path, 'guest', 'project');

function prepare(context: EngineContext): Promise<unknown> {
  const params = {
    path: projectPath(),
    vm: 'web',
    guestPath: guestPath(),
    includeUntracked: false,
    include: [],
    overwrite: false,
    fullHistory: false,
    readonly: false,
  };
  return prepareWorkspace(context, params, operation(), () => Promise.reject(new Error('the VM was named')));
}

/** The engine, with VMs whose programs run here. */
function contextWith(guest: Guest, drop: () => void = () => undefined): EngineContext {
  return {
    ...engine.context,
    exec: hermeticExec,
    guest: async (vm, signal) => {
      const { powerOff } = await engine.context.guest(vm, signal);
      return { ...guest, powerOff };
    },
    guests: { ...engine.context.guests, drop },
  };
}

/** An upload to "web" of which half has arrived, and that goes on until the connections to its guest are closed. */
async function startUpload(): Promise<{ context: EngineContext; preparing: Promise<unknown> }> {
  const repo = createRepo(projectPath());
  repo.write('file', 'text\n');
  repo.write('more/of it', randomBytes(50_000).toString('base64'));
  repo.commit('one');
  const uploading = Promise.withResolvers<void>();
  const connection = new AbortController();
  const lost = new BangerError('guest_unreachable', 'The connection was lost');
  async function* half(input: Readable): AsyncGenerator<Buffer> {
    for await (const chunk of input as AsyncIterable<Buffer>) {
      yield chunk.subarray(0, Math.ceil(chunk.length / 2));
      uploading.resolve();
      await once(connection.signal, 'abort');
      throw lost;
    }
  }
  const { guest } = createFakeGuest();
  const runToolbox: Guest['runToolbox'] = (argv, options = {}) => {
    if (!argv.some((word) => word.includes('tar -x'))) return guest.runToolbox(argv, options);
    const input = Readable.from(half(options.input as Readable), { objectMode: false });
    return guest.runToolbox(argv, { ...options, input, signal: connection.signal });
  };
  const context = contextWith({ ...guest, runToolbox }, () => connection.abort(lost));
  const preparing = prepare(context);
  // Whoever waits for it below hears of it.
  preparing.catch(() => undefined);
  await Promise.race([uploading.promise, preparing]);
  return { context, preparing };
}

/** What is noted of trees that were sent, and what the engine works with meanwhile. */
function traces(id: string): unknown {
  const { db, layout } = engine.context;
  const names = (path: string): string[] => (existsSync(path) ? readdirSync(path) : []);
  return {
    rows: listWorkspaces(db, id),
    manifests: names(vmPaths(layout, id).manifests),
    scratch: names(layout.scratchDirectory),
  };
}
const none = { rows: [], manifests: [], scratch: [] };

test('a stop returns while a prepare uploads to the same VM, which is told that its guest has gone', async () => {
  const { id } = await createTestVm(engine);
  const { context, preparing } = await startUpload();
  const stopped = await stopVm(context, { id, timeoutMs: 5_000 }, operation());
  expect(stopped).toMatchObject({ flushed: true, vm: { state: 'stopped' } });
  await expect(preparing).rejects.toMatchObject({ code: 'guest_unreachable' });
  expect(isAlive(engine.vmms.get(id)!)).toBe(false);
  // Nobody could tell it from a tree that has arrived.
  expect(traces(id)).toEqual(none);
  expect(existsSync(guestPath())).toBe(false);

  await startVm(engine.context, id, operation());
  await prepare(contextWith(createFakeGuest().guest));
  expect(viewOf(openRepo(guestPath()))).toEqual(viewOf(openRepo(projectPath())));
  expect(readdirSync(join(directory.path, 'guest'))).toEqual(['project']);
  expect(traces(id)).toMatchObject({ rows: [{ hostPath: projectPath() }], scratch: [] });
});

test('so does a delete, and a VM of the same name begins anew', async () => {
  const { id } = await createTestVm(engine);
  const { context, preparing } = await startUpload();
  await deleteVm(context, id, operation());
  await expect(preparing).rejects.toMatchObject({ code: 'guest_unreachable' });
  expect(traces(id)).toEqual(none);
  expect(existsSync(vmPaths(engine.context.layout, id).directory)).toBe(false);

  const again = await createTestVm(engine);
  await prepare(contextWith(createFakeGuest().guest));
  expect(viewOf(openRepo(guestPath()))).toEqual(viewOf(openRepo(projectPath())));
  expect(traces(again.id)).toMatchObject({ rows: [{ hostPath: projectPath() }], scratch: [] });
  expect(traces(id)).toEqual(none);
});
