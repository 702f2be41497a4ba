import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { HandleCache } from '../../src/engine/handles.ts';
import { reconcile } from '../../src/engine/reconciler.ts';
import { viewVmDetails } from '../../src/engine/vm-view.ts';
import { vmmDrivers } from '../../src/engine/vmm-drivers.ts';
import { loopbackForward } from '../../src/host/drivers/driver.ts';
import { rootlessRefusal } from '../../src/host/drivers/firecracker/namespace.ts';
import { exec } from '../../src/host/exec.ts';
import { guestSshPort } from '../../src/engine/guest-pool.ts';
import { findFreePort } from '../../src/host/ports.ts';
import { killProcess } from '../../src/host/process.ts';
import { parseConfig } from '../../src/state/config.ts';
import { vmPaths } from '../../src/state/layout.ts';
import { getVm } from '../../src/state/vms.ts';
import { until } from '../support/banger.ts';
import { fakeEngine, readyLine } from '../support/fake-engine.ts';
import { makeFakeFirecracker } from '../support/firecracker-program.ts';
import { createTestVm } from '../support/vm-world.ts';

test('a VM that Firecracker runs is adopted without its handle file, by what runs and what that answers', async ({
  skip,
}) => {
  const refusal = await rootlessRefusal(exec);
  if (refusal !== undefined) skip(refusal);
  const engine = fakeEngine();
  onTestFinished(() => engine.close());
  const { layout, db } = engine.context;
  const vm = await createTestVm(engine, { start: false });
  const paths = vmPaths(layout, vm.id);
  mkdirSync(layout.runtimeDirectory, { recursive: true });

  const programs = mkdtempSync(join(tmpdir(), 'banger-fc-'));
  onTestFinished(() => rmSync(programs, { recursive: true, force: true }));
  const fake = await makeFakeFirecracker(programs);
  fake.behave({ console: readyLine });
  const [kernel, disk] = [join(programs, 'kernel'), join(programs, 'disk')];
  for (const path of [kernel, disk, paths.initrd]) writeFileSync(path, 'x');
  const driver = vmmDrivers(() =>
    parseConfig(`[vmm]\nfirecracker = "${fake.program}"\njailer = "never"\n`, 'config.toml'),
  );
  const sshPort = await findFreePort();
  const user = { forwards: [loopbackForward(sshPort, guestSshPort)], reach: 'all' as const };
  const process = await driver('firecracker').start(
    {
      id: vm.id,
      cpus: vm.cpus,
      memoryMib: vm.memoryMib,
      kernel,
      initrd: paths.initrd,
      disk: { path: disk, format: 'raw' },
      consoleLog: paths.consoleLog,
      vmmLog: paths.vmmLog,
      controlSocket: vm.controlSocket,
      network: { user },
      acceleration: 'kvm',
    },
    new AbortController().signal,
  );
  onTestFinished(() => killProcess(process));
  db.prepare(`UPDATE vms SET state = 'running' WHERE id = ?`).run(vm.id);
  expect(existsSync(paths.handles)).toBe(false);

  const next = {
    ...engine.context,
    driver,
    handles: new HandleCache((id) => vmPaths(layout, id).handles),
    controls: new Map<string, never>(),
    vmmSignals: new Map<string, never>(),
  };
  await reconcile(next);
  expect(getVm(db, vm.id).state).toBe('running');
  expect(next.handles.get(vm.id)).toMatchObject({
    process,
    driver: 'firecracker',
    acceleration: 'kvm',
    sshPort,
    guestBootId: 'b00t',
  });
  expect(existsSync(paths.handles)).toBe(true);
  const { vmm, confinement } = await viewVmDetails(next, getVm(db, vm.id));
  expect(vmm).toBe('firecracker (kvm)');
  expect(confinement?.has).toEqual(
    expect.arrayContaining([
      'a network namespace',
      'a user namespace',
      'the loss of all capabilities',
      'no_new_privs',
      'a ban on core files',
    ]),
  );
  expect(confinement?.lacks).toContain('a jail');

  await killProcess(process);
  await until('the engine has seen its end', () => getVm(db, vm.id).state === 'stopped');
  // Its log, in which each request is, says nothing of it.
  expect(getVm(db, vm.id).lastError).toBe('The VMM ended by itself (killed from outside, or crashed)');
});
