import { tmpdir } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorText } from '../errors.ts';
import { cutOffPath } from '../host/bounded-log.ts';
import type { FoundVmm, PortForward } from '../host/drivers/driver.ts';
import { findReadyLine, readHead } from '../host/console.ts';
import { hostBootId, isAlive } from '../host/process.ts';
import { removeLeftTrials } from '../host/trial-place.ts';
import { vmPaths } from '../state/layout.ts';
import { isFurnishing } from '../state/furnishing.ts';
import { findVm, listVms, moveVm, setEphemeral, type Vm } from '../state/vms.ts';
import { listWorkspaces } from '../state/workspaces.ts';
import type { EngineContext } from './context.ts';
import { adoptEgress } from './egress/match-egress.ts';
import { guestSshPort } from './guest-pool.ts';
import type { Handles } from './handles.ts';
import { removeUnownedKernels } from './images/kernels/publish-kernel.ts';
import { cleanStaging, removeUnownedImages } from './images/publish-image.ts';
import { tidyBlobs } from './images/registry/blob-files.ts';
import { endVmm, forgetVmm } from './lifecycle/boot-vm.ts';
import { deleteVm } from './lifecycle/delete-vm.ts';
import { matchActivity } from './lifecycle/guest-activity.ts';
import { matchForwards } from './lifecycle/published-ports.ts';
import { diskFile } from './lifecycle/root-disk.ts';
import { stopVm } from './lifecycle/stop-vm.ts';
import { watchVmm } from './lifecycle/vmm-watch.ts';
import { reconcileBridges } from './network/bridges.ts';
import { noteUnowned, removeOrphans, unowned } from './unowned.ts';
import { findVmm } from './vmm-drivers.ts';
import { cleanScratch } from './workspace/scratch.ts';

/**
 * Makes the world and the database agree, when an engine starts: adopts VMs that run, finishes or undoes what an
 * engine before left halfway, and removes what no row owns, but for what the database has lost. One VM's trouble does not keep the others waiting.
 */
export async function reconcile(context: EngineContext): Promise<void> {
  for (const vm of listVms(context.db)) {
    try {
      await reconcileVm(context, vm);
    } catch (error) {
      context.log('error', `VM could not be reconciled: ${errorText(error)}`, { vm: vm.id });
    }
  }
  await matchActivities(context);
  await matchBridges(context);
  const lostVms = await removeOrphans(context);
  await removeTrials(context);
  await cleanStaging(context.layout);
  await cleanScratch(context.layout);
  await tidyBlobs(context.layout.blobsDirectory);
  await noteUnowned(context, [
    ...lostVms,
    ...unowned('image', await removeUnownedImages(context.layout, context.db)),
    ...unowned('kernel', await removeUnownedKernels(context.layout, context.db)),
  ]);
}

async function reconcileVm(context: EngineContext, vm: Vm): Promise<void> {
  const written = await context.handles.readFile(vm.id);
  const handles = await findHandles(context, vm, written);
  if (!handles) await forgetVmm(context, vm);
  const hasWork = listWorkspaces(context.db, vm.id).length > 0 && !isFurnishing(context.db, vm.id);
  // What a run changed in its working tree is nowhere else: its VM is the user's now.
  if (vm.ephemeral && hasWork) setEphemeral(context.db, vm.id, false);
  const isLeftover = vm.ephemeral && !hasWork;
  switch (vm.state) {
    case 'running':
    case 'paused':
      if (isLeftover) return remove(context, vm);
      if (handles) return watchVmm(context, vm);
      moveVm(context.db, vm.id, 'stopped', whyItEnded(written));
      return;
    case 'creating':
    case 'deleting':
      return remove(context, vm);
    case 'starting':
      // A VM whose very first start was cut short belongs to a create that never answered.
      if (vm.startedAt === undefined && vm.stoppedAt === undefined) return remove(context, vm);
      await endVmm(context, vm);
      moveVm(context.db, vm.id, 'stopped', 'The engine ended while it was starting this VM');
      return;
    case 'stopping':
      return finishStop(context, vm, handles !== undefined);
    case 'stopped':
      if (handles) await endVmm(context, vm);
      if (isLeftover) await remove(context, vm);
      return;
  }
}

/** What its handle file tells of a VMM that is gone. */
function whyItEnded(written: Handles | undefined): string {
  return written && written.process.bootId !== hostBootId()
    ? 'The host was shut down or rebooted while it ran; what its guest had not written to its disk is lost'
    : 'The VMM ended while no engine was there to see why';
}

/** How long an engine that starts waits to hear what its VMs do; a VMM that does not say goes on being asked. */
const activityTimeoutMs = 2_000;

/** An engine may have died after it paused a VM, or before it published a port, and had written that down or not. */
async function matchActivities(context: EngineContext): Promise<void> {
  const asked = [...context.controls.keys()].map(async (id) => {
    await matchActivity(context, id);
    await matchPorts(context, id);
  });
  await Promise.race([Promise.all(asked), sleep(activityTimeoutMs, undefined, { ref: false })]);
}

/** Rules and taps may have gone since, or have been left. VMs that have none of them do not wait for this to work. */
async function matchBridges(context: EngineContext): Promise<void> {
  try {
    await reconcileBridges(context);
  } catch (error) {
    context.log('error', `bridges could not be set right: ${errorText(error)}`);
  }
}

/** What probes of an engine before, or of a doctor, left when they were killed: VMMs that run for ever among it. */
async function removeTrials({ exec, layout, log }: EngineContext): Promise<void> {
  // Doctor's are among temporary files. Releases before this one had theirs there, too, or in the scratch directory.
  const { vmsDirectory, runtimeDirectory, stateDirectory, scratchDirectory } = layout;
  const parents = [tmpdir(), vmsDirectory, runtimeDirectory, stateDirectory, scratchDirectory];
  await removeLeftTrials(exec, parents, (directory, error) =>
    log('warn', `what a probe left could not be removed: ${errorText(error)}`, { directory }),
  );
}

/** Each for itself: a path that came to be taken is no reason to keep a VM from the world. */
async function matchPorts(context: EngineContext, id: string): Promise<void> {
  const attempt = async (what: string, task: () => void | Promise<void>): Promise<void> => {
    try {
      await task();
    } catch (error) {
      context.log('error', `${what} could not be set right: ${errorText(error)}`, { vm: id });
    }
  };
  await attempt('ports, sockets and egress', () =>
    context.locks.vm.run(id, new AbortController().signal, async () => {
      const vm = findVm(context.db, id);
      if (vm?.state !== 'running' && vm?.state !== 'paused') return;
      await attempt('egress', () => adoptEgress(context, vm));
      await attempt('published ports', () => matchForwards(context, vm));
      await attempt('published sockets', () => context.sockets.match(vm));
      await attempt('followed ports', () => context.portFollowers.watch(vm));
    }),
  );
}

/** What is true of a VM now: its handle file if that still holds, else what its VMM's command line tells. */
async function findHandles(
  context: EngineContext,
  vm: Vm,
  written: Handles | undefined,
): Promise<Handles | undefined> {
  const found = findVmm(context, vm.id);
  // How its command line looks, as behind a wrapper, is no matter, unless there is one that is beyond doubt.
  const isWritten = written && isAlive(written.process);
  if (isWritten && (!found || found.process.pid === written.process.pid)) {
    context.handles.adopt(vm.id, written);
    return written;
  }
  if (!found) return undefined;
  const { consoleLog } = vmPaths(context.layout, vm.id);
  const heads = [cutOffPath(consoleLog), consoleLog].map((path) => readHead(path, readyLineWithinBytes));
  const ready = findReadyLine(heads.join('\n'));
  const forwards = found.forwards.length > 0 ? found.forwards : await askForwards(context, vm, found);
  const way = forwards.find((port) => port.guestPort === guestSshPort);
  const handles: Handles = {
    process: found.process,
    acceleration: found.acceleration,
    driver: found.driver,
    cpus: found.cpus,
    memoryMib: found.memoryMib,
    sshHost: way ? undefined : vm.address,
    sshPort: way?.hostPort ?? guestSshPort,
    guestProtocol: ready?.protocol,
    guestBootId: ready?.bootId,
    phases: ready && { ...ready.phases },
  };
  await context.handles.set(vm.id, handles);
  return handles;
}

/** Ports of a VMM whose command line does not tell them. One that does not answer is reached when it is started again. */
async function askForwards(context: EngineContext, vm: Vm, found: FoundVmm): Promise<readonly PortForward[]> {
  const { consoleLog, vmmLog } = vmPaths(context.layout, vm.id);
  const { controlSocket } = vm;
  const disk = diskFile(context, vm);
  try {
    const running = { process: found.process, controlSocket, consoleLog, vmmLog, disk };
    const control = await context.driver(found.driver).control(running);
    try {
      return await control.forwards();
    } finally {
      control.close();
    }
  } catch (error) {
    context.log('warn', `its ports are not known: ${errorText(error)}`, { vm: vm.id });
    return [];
  }
}

/** A guest writes to its console what it likes; its ready line comes early. */
const readyLineWithinBytes = 1024 * 1024;

function remove(context: EngineContext, vm: Vm): Promise<void> {
  context.log('info', `removing what is left of VM "${vm.name}"`, { vm: vm.id, state: vm.state });
  return inOperation(context, 'reconcile.delete', vm, (operation) => deleteVm(context, vm.id, operation));
}

const stopTimeoutMs = 10_000;

/** The stop goes on in the background: the engine answers meanwhile, and whoever wants this VM waits for its lock. */
async function finishStop(context: EngineContext, vm: Vm, isRunning: boolean): Promise<void> {
  if (!isRunning) {
    moveVm(context.db, vm.id, 'stopped');
    return;
  }
  moveVm(context.db, vm.id, 'running');
  watchVmm(context, vm);
  void inOperation(context, 'reconcile.stop', vm, async (operation) => {
    await stopVm(context, { id: vm.id, timeoutMs: stopTimeoutMs }, operation);
  }).catch((error: unknown) =>
    context.log('error', `stop could not be finished: ${errorText(error)}`, { vm: vm.id }),
  );
}

function inOperation(
  context: EngineContext,
  kind: string,
  vm: Vm,
  task: Parameters<typeof context.operations.run<void>>[1],
): Promise<void> {
  return context.operations.run({ kind, subject: vm.name, signal: new AbortController().signal }, task);
}
