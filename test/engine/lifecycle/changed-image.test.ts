import { execFileSync } from 'node:child_process';
import { appendFileSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { EngineContext } from '../../../src/engine/context.ts';
import { registerImage } from '../../../src/engine/images/register-image.ts';
import { createVm } from '../../../src/engine/lifecycle/create-vm.ts';
import { setVm } from '../../../src/engine/lifecycle/set-vm.ts';
import { startVm } from '../../../src/engine/lifecycle/start-vm.ts';
import { exec as realExec } from '../../../src/host/exec.ts';
import { parseConfig } from '../../../src/state/config.ts';
import type { DiskMethodName } from '../../../src/state/disk-methods.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { fakeOperation } from '../../support/fakes.ts';

const mib = 1024 ** 2;

let engine: FakeEngine;
beforeEach(() => {
  engine = fakeEngine();
});
afterEach(() => engine.close());

const operation = () => fakeOperation().operation;

/** A stopped VM whose disk was made of a file of the user's. */
async function vmOfFile(method: DiskMethodName) {
  const context: EngineContext = {
    ...engine.context,
    config: () =>
      parseConfig(`[vm]\nimage = "mine"\nmemory = "128M"\n[disk]\nmethod = "${method}"\n`, 'config.toml'),
    exec: (argv, options) => (argv[0] === 'cp' ? realExec : engine.context.exec)(argv, options),
  };
  const path = join(context.layout.stateDirectory, 'mine.ext4');
  execFileSync('mke2fs', ['-q', '-t', 'ext4', path, '4M'], { stdio: 'pipe' });
  await registerImage(context, { path, name: 'mine' }, operation());
  const create = (name: string) =>
    createVm(context, { name, start: false, ephemeral: false, diskBytes: 8 * mib }, operation());
  return { context, path, create, vm: await create('web') };
}

const harms: readonly [string, (path: string) => void][] = [
  ['has changed since it was registered', (path) => appendFileSync(path, 'more')],
  ['is gone', (path) => renameSync(path, `${path}.away`)],
];

test.each(harms)(
  'a VM whose disk is a copy starts and grows when the file %s; no other is made',
  async (why, harm) => {
    const { context, path, create, vm } = await vmOfFile('copy');
    harm(path);
    const params = { removeLabels: [], publish: [], unpublish: [], diskBytes: 16 * mib };
    await setVm(context, { id: vm.id, params }, operation());
    expect(await startVm(context, vm.id, operation())).toMatchObject({ state: 'running' });
    expect(statSync(engine.specs.at(-1)!.disk!.path).size).toBe(16 * mib);
    await expect(create('other')).rejects.toMatchObject({
      message: `"${path}", which is image "mine:latest", ${why}`,
    });
  },
);

test.each(harms)('a VM whose disk stands on the file is refused when it %s', async (why, harm) => {
  const { context, path, vm } = await vmOfFile('qcow2');
  harm(path);
  await expect(startVm(context, vm.id, operation())).rejects.toMatchObject({
    message: `"${path}", which is image "mine:latest", on which VM "web" stands, ${why}`,
  });
});

test('a file that is gone can be moved back, or its image forgotten with the VM', async () => {
  const { context, path, vm } = await vmOfFile('qcow2');
  renameSync(path, `${path}.away`);
  await expect(startVm(context, vm.id, operation())).rejects.toMatchObject({
    hint: 'Move it back (a copy counts as another file), or forget the image: banger vm delete web; banger image delete mine:latest',
  });
  renameSync(`${path}.away`, path);
  expect(await startVm(context, vm.id, operation())).toMatchObject({ state: 'running' });
});
