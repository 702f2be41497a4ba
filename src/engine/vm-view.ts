import { stat } from 'node:fs/promises';
import type * as z from 'zod/mini';
import { getKernel } from '../state/kernels.ts';
import { monotonicMs } from '../host/clock.ts';
import { describeConfinement } from '../host/drivers/confinement.ts';
import { vmPaths } from '../state/layout.ts';
import { findVmTemplate, type RecordedTemplate } from '../state/templates.ts';
import { egressWords } from '../state/egress.ts';
import type { FileSync } from '../state/file-sync.ts';
import type { Vm } from '../state/vms.ts';
import { listWorkspaces, workspacesByVm, type Workspace } from '../state/workspaces.ts';
import type { EngineContext } from './context.ts';
import { shownKernel } from './images/kernels/find-kernel.ts';
import type { Handles } from './handles.ts';
import { syncedFiles } from './sync/file-sync.ts';
import type { VmView, vmShow } from './rpc/vm-methods.ts';

/** VMs as clients see them. */
export function viewVms(context: EngineContext, vms: readonly Vm[]): VmView[] {
  const workspaces = workspacesByVm(context.db);
  const configured = configuredFiles(context);
  return vms.map((vm) => view(context, vm, { workspaces: workspaces.get(vm.id) ?? [], configured }));
}

/** A VM as clients see it. */
export function viewVm(context: EngineContext, vm: Vm): VmView {
  const workspaces = listWorkspaces(context.db, vm.id);
  return view(context, vm, { workspaces, configured: configuredFiles(context) });
}

interface ViewInput {
  readonly workspaces: readonly Workspace[];
  /** Files that VMs get because the configuration says so */
  readonly configured: readonly FileSync[];
}

/** A configuration that is not right is no reason to show nothing. */
function configuredFiles(context: EngineContext): readonly FileSync[] {
  try {
    return context.config().fileSync;
  } catch {
    return [];
  }
}

function view(context: EngineContext, vm: Vm, { workspaces, configured }: ViewInput): VmView {
  const handles = context.handles.get(vm.id);
  return {
    id: vm.id,
    name: vm.name,
    state: vm.state,
    image: vm.imageName,
    cpus: handles?.cpus ?? vm.cpus,
    memoryMib: handles?.memoryMib ?? vm.memoryMib,
    diskBytes: handles?.diskBytes ?? vm.diskBytes,
    network: vm.network,
    address: vm.address,
    createdAt: vm.createdAt,
    startedAt: vm.startedAt,
    stoppedAt: vm.stoppedAt,
    lastError: vm.lastError,
    vmm: handles && `${handles.driver} (${handles.acceleration})`,
    vmmReason: handles?.vmmReason,
    sshHost: handles?.sshHost,
    sshPort: handles?.sshPort,
    bootId: handles?.guestBootId,
    labels: { ...vm.labels },
    publishesAll: vm.publishesAll,
    ports: vm.ports.map(({ protocol, bind, hostPort, guestPort, followed, chosen, wished }) => ({
      protocol,
      bind,
      hostPort,
      guestPort,
      followed,
      chosen: chosen || undefined,
      wished: wished === hostPort ? undefined : wished,
    })),
    sockets: vm.sockets.map(({ hostPath, guestPath }) => ({ hostPath, guestPath })),
    egress: egressWords(vm.egress),
    ttlMs: vm.ttlMs,
    idleStopMs: vm.idleStopMs,
    expiresAt: expiryTime(handles),
    pending: handles && pendingChanges(vm, handles),
    workspaces: workspaces.map(({ hostPath, guestPath }) => ({ hostPath, guestPath })),
    fileSync: viewFileSync(configured, vm),
  };
}

function viewFileSync(configured: readonly FileSync[], vm: Vm): VmView['fileSync'] {
  const own = new Set(vm.fileSync.map(({ guest }) => guest));
  return syncedFiles(configured, vm).map(({ host, guest }) => ({
    hostPath: host,
    guestPath: guest,
    source: own.has(guest) ? 'vm' : 'config',
  }));
}

/** What the next start of a running VM will change; undefined when nothing. */
export function pendingChanges(vm: Vm, now: Handles): VmView['pending'] {
  const changed = <T>(wanted: T, current: T | undefined): T | undefined =>
    current === undefined || current === wanted ? undefined : wanted;
  const pending = {
    cpus: changed(vm.cpus, now.cpus),
    memoryMib: changed(vm.memoryMib, now.memoryMib),
    diskBytes: changed(vm.diskBytes, now.diskBytes),
    hostname: changed(vm.name, now.hostname),
  };
  return Object.values(pending).some((value) => value !== undefined) ? pending : undefined;
}

/** By the clock on the wall, which may be set meanwhile; what counts is the monotonic one. */
function expiryTime(handles: Handles | undefined): string | undefined {
  if (handles?.expiresAtMs === undefined) return undefined;
  return new Date(Date.now() + handles.expiresAtMs - monotonicMs()).toISOString();
}

/** Everything that `vm show` tells. */
export async function viewVmDetails(context: EngineContext, vm: Vm): Promise<z.output<typeof vmShow.result>> {
  const disk = await stat(vmPaths(context.layout, vm.id).disk(vm.diskMethod)).catch(() => undefined);
  const blockBytes = 512;
  const vmm = context.handles.get(vm.id)?.process;
  const confinement = vmm && describeConfinement(vmm.pid, vm.id);
  return {
    ...viewVm(context, vm),
    confinement: confinement && { has: [...confinement.has], lacks: [...confinement.lacks] },
    imageId: vm.imageId,
    kernel: shownKernel(vm.kernelId === undefined ? undefined : getKernel(context.db, vm.kernelId)),
    hostPublicKey: vm.hostPublicKey,
    bootPhases: context.handles.get(vm.id)?.phases,
    diskUsedBytes: (disk?.blocks ?? 0) * blockBytes,
    diskMethod: vm.diskMethod,
    template: viewTemplate(findVmTemplate(context.db, vm.id)),
  };
}

function viewTemplate(recorded: RecordedTemplate | undefined): z.output<typeof vmShow.result>['template'] {
  if (!recorded) return undefined;
  const { file, sha256, env, setup } = recorded.template;
  return { hostPath: recorded.hostPath, file, sha256, env: { ...env }, setup: setup.map(({ text }) => text) };
}
