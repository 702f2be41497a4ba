import { BangerError, errorText } from '../../errors.ts';
import { ownedPort } from '../../state/ports.ts';
import { changedEgress, parseEgress, type EgressChange, type EgressPolicy } from '../../state/egress.ts';
import { formatBytes } from '../../state/units.ts';
import type { VmChanges } from '../../state/vm-changes.ts';
import { changeVm, getVm, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import {
  checkEgress,
  checkLiveEgress,
  cutsConnections,
  matchEgress,
  refuseCutting,
} from '../egress/match-egress.ts';
import { uncancellable, type Operation } from '../operations.ts';
import { refuseUnreachablePorts } from '../network/network.ts';
import { planSockets, type SocketChange } from '../ports/plan-sockets.ts';
import { checkSyncedFiles } from '../sync/file-sync.ts';
import { planChangedPorts, type PortToRemove } from './changed-ports.ts';
import { vmmControl } from './guest-activity.ts';
import { growGuestFilesystem, setGuestHostname } from './guest-settings.ts';
import { matchForwards, restoreForwards, type PortRequest } from './published-ports.ts';
import { withRollback } from './rollback.ts';
import { growsLive, growStoppedDisk } from './root-disk.ts';
import { settleVm } from './settle-vm.ts';
import { hostSize, planVmSize } from './vm-spec.ts';

export interface SetVmParams
  extends Omit<VmChanges, 'ports' | 'sockets' | 'egress' | 'publishesAll'>, SocketChange {
  /** Guest paths of files of the host that it is sent no more */
  readonly removeFileSync?: readonly string[];
  readonly removeLabels: readonly string[];
  readonly publish: readonly PortRequest[];
  readonly publishAll?: boolean;
  readonly unpublish: readonly PortToRemove[];
  /** What it may reach, or rules that are added or taken away */
  readonly egress?: readonly string[];
  /** Absent: it is replaced */
  readonly egressChange?: EgressChange;
  /** Also when it ends connections to the VM */
  readonly force?: boolean;
}

export interface SetVm {
  readonly vm: Vm;
  readonly applied: readonly string[];
  readonly atNextStart: readonly string[];
}

/**
 * Changes a VM: its row first, then what runs. A step that fails takes all of it back but a disk that has grown. What
 * the guest itself cannot do now (another host name, a larger filesystem) waits for its next start, as processors and
 * memory do.
 */
export async function setVm(
  context: EngineContext,
  request: { readonly id: string; readonly params: SetVmParams },
  operation: Operation,
): Promise<SetVm> {
  const { id, params } = request;
  return context.locks.vm.run(id, operation.signal, async () => {
    const before = await settleVm(context, getVm(context.db, id), operation);
    if (before.state === 'creating' || before.state === 'deleting') throw notNow(before);
    const changes = await planChanges(context, before, params);
    const isLive = before.state !== 'stopped';
    if (changes.egress && isLive && !params.force) {
      const planned = { ...before, egress: changes.egress };
      if (await cutsConnections(context, planned)) refuseCutting(context, before);
    }
    return withRollback(operation, context.log, async (run) => {
      const { sockets } = changes;
      const kept = before.sockets.filter((one) => !sockets || sockets.includes(one));
      if (kept.length < before.sockets.length && isLive) {
        // Before the row forgets them: a link that nobody knows of would stay.
        await run({
          stage: 'Taking sockets back',
          apply: () => context.sockets.match({ ...before, sockets: kept }),
          undo: () => context.sockets.match(before),
        });
      }
      let hasGrown = false;
      await run({
        stage: 'Recording changes',
        apply: () => changeVm(context.db, id, changes),
        // A disk that has grown cannot shrink again: its row goes on telling the truth.
        undo: () =>
          void changeVm(context.db, id, {
            ...rowOf(before),
            ...(hasGrown && { diskBytes: changes.diskBytes }),
          }),
      });
      const vm = getVm(context.db, id);
      const live = isLive ? before.state : undefined;
      if (changes.ports && live) {
        await run({
          stage: 'Publishing ports',
          apply: () => matchForwards(context, vm),
          undo: () => restoreForwards(context, before),
        });
      }
      if (sockets && live) {
        await run({
          stage: 'Publishing sockets',
          apply: () => context.sockets.match(vm),
          undo: () => context.sockets.match(before),
        });
      }
      if (changes.egress && live) {
        await run({
          stage: 'Changing what it may reach',
          apply: () => matchEgress(context, vm, operation),
          undo: () => {
            // Rules of the host are made of rows: this one has to be true first. Whoever cancelled waits for it.
            changeVm(context.db, id, { egress: before.egress });
            return matchEgress(context, before, uncancellable(operation, AbortSignal.timeout(undoTimeoutMs)));
          },
        });
      }
      if (changes.diskBytes !== undefined) {
        const grow = async (): Promise<void> => {
          await growDisk(context, vm, live === undefined ? before.diskBytes : undefined);
          hasGrown = true;
        };
        await run({ stage: 'Growing disk', apply: grow });
      }
      if (live) await run({ stage: 'Telling the guest', apply: () => tellGuest(context, vm, operation) });
      if (changes.publishesAll !== undefined && live) context.portFollowers.watch(vm);
      await context.stopTimers.change(vm, changes.ttlMs !== undefined);
      return { vm: getVm(context.db, id), ...outcome(context, vm, changes) };
    });
  });
}

/** How long a guest may take to be told that all stays as it was */
const undoTimeoutMs = 10_000;

function notNow(vm: Vm): BangerError {
  return new BangerError('invalid_state', `VM "${vm.name}" is ${vm.state} and cannot be changed`, {
    hint: `See what it is doing with: banger vm show ${vm.name}`,
  });
}

/** What is asked for and differs from what is; refuses what cannot be, before anything is touched. */
async function planChanges(context: EngineContext, vm: Vm, params: SetVmParams): Promise<VmChanges> {
  const { cpus = vm.cpus, memoryMib = vm.memoryMib, diskBytes = vm.diskBytes } = params;
  planVmSize({ cpus, memoryMib, diskBytes }, context.config(), hostSize());
  if (diskBytes < vm.diskBytes) {
    throw new BangerError(
      'invalid_argument',
      `The disk of VM "${vm.name}" has ${formatBytes(vm.diskBytes)} and cannot become smaller: what is at its end would be lost`,
      { hint: 'Make a smaller VM, and copy what you need into it: banger vm create --disk …' },
    );
  }
  const labels: Record<string, string> = { ...vm.labels, ...params.labels };
  for (const key of params.removeLabels) delete labels[key];
  const isRelabelled = params.removeLabels.length > 0 || Object.keys(params.labels ?? {}).length > 0;
  const { publishAll = vm.publishesAll } = params;
  if (publishAll) refuseUnreachablePorts(vm.network, 1);
  return {
    name: params.name,
    cpus: params.cpus,
    memoryMib: params.memoryMib,
    diskBytes: params.diskBytes,
    labels: isRelabelled ? labels : undefined,
    ttlMs: params.ttlMs,
    idleStopMs: params.idleStopMs,
    fileSync: await planFileSync(context, vm, params),
    ports: await planChangedPorts(vm, { ...params, publishAll }, (port) => ownedPort(context.db, port)),
    sockets: await planSockets(context, vm, params),
    egress: planEgress(context, vm, params),
    publishesAll: publishAll === vm.publishesAll ? undefined : publishAll,
  };
}

/** One that goes to the place of another takes it. What cannot be sent is refused now, not at the next start. */
async function planFileSync(
  context: EngineContext,
  vm: Vm,
  { fileSync: added = [], removeFileSync: removed = [] }: SetVmParams,
): Promise<VmChanges['fileSync']> {
  if (added.length === 0 && removed.length === 0) return undefined;
  const unknown = removed.find((guest) => !vm.fileSync.some((file) => file.guest === guest));
  if (unknown !== undefined) {
    throw new BangerError(
      'not_found',
      `VM "${vm.name}" has nothing of its own that is sent to "${unknown}"`,
      {
        hint: `See what it gets with: banger vm show ${vm.name}`,
      },
    );
  }
  const gone = new Set([...removed, ...added.map(({ guest }) => guest)]);
  const fileSync = [...vm.fileSync.filter(({ guest }) => !gone.has(guest)), ...added];
  if (added.length > 0) await checkSyncedFiles(context, { ...vm, fileSync });
  return fileSync;
}

function planEgress(
  context: EngineContext,
  vm: Vm,
  { egress, egressChange = 'replace' }: SetVmParams,
): EgressPolicy | undefined {
  if (egress === undefined) return undefined;
  const planned = changedEgress(vm.egress, parseEgress(egress), egressChange);
  checkEgress(context, vm.network, planned);
  if (vm.state !== 'stopped') checkLiveEgress(context, vm, planned);
  return planned;
}

/** A row's changeable part, to go back to. */
function rowOf(vm: Vm): VmChanges {
  const { name, cpus, memoryMib, diskBytes, labels, ports, sockets, fileSync, egress, publishesAll } = vm;
  return {
    name,
    cpus,
    memoryMib,
    diskBytes,
    labels,
    ports,
    sockets,
    fileSync,
    egress,
    publishesAll,
    ttlMs: vm.ttlMs ?? null,
    idleStopMs: vm.idleStopMs ?? null,
  };
}

/** `stoppedBytes`: what the disk of a VM that does not run had. */
async function growDisk(context: EngineContext, vm: Vm, stoppedBytes: number | undefined): Promise<void> {
  if (stoppedBytes !== undefined) return growStoppedDisk(context, vm, stoppedBytes);
  // Otherwise its next start does it.
  if (growsLive(context, vm)) await (await vmmControl(context, vm)).growDisk(vm.diskBytes);
}

/** What the guest has to do itself; what it does not do now, its next start does. */
async function tellGuest(context: EngineContext, vm: Vm, operation: Operation): Promise<void> {
  const now = context.handles.get(vm.id);
  if (!now || vm.state !== 'running') return;
  const told: { hostname?: string; diskBytes?: number } = {};
  try {
    if (now.hostname !== vm.name) {
      await setGuestHostname(context, vm, operation.signal);
      told.hostname = vm.name;
    }
    if (now.diskBytes !== vm.diskBytes && growsLive(context, vm)) {
      await growGuestFilesystem(context, vm, operation.signal);
      told.diskBytes = vm.diskBytes;
    }
  } catch (error) {
    context.log('warn', `the guest could not be changed now: ${errorText(error)}`, { vm: vm.id });
  }
  if (Object.keys(told).length > 0) await context.handles.update(vm.id, told);
}

/** Which of the changes hold now, and which wait. */
function outcome(context: EngineContext, vm: Vm, changes: VmChanges): Pick<SetVm, 'applied' | 'atNextStart'> {
  const now = context.handles.get(vm.id);
  const waits: Readonly<Record<string, boolean>> = {
    cpus: now?.cpus !== undefined && now.cpus !== vm.cpus,
    memoryMib: now?.memoryMib !== undefined && now.memoryMib !== vm.memoryMib,
    diskBytes: now !== undefined && now.diskBytes !== vm.diskBytes,
    fileSync: now !== undefined,
  };
  const changed = Object.entries(changes).filter(([, value]) => value !== undefined);
  const keys = changed.map(([key]) => key);
  const isNameLate = changes.name !== undefined && now !== undefined && now.hostname !== vm.name;
  return {
    applied: keys.filter((key) => !waits[key]),
    atNextStart: [...keys.filter((key) => waits[key]), ...(isNameLate ? ['hostname'] : [])],
  };
}
