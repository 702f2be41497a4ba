import { errorText, explainHostError } from '../errors.ts';
import type { Assets } from '../host/assets.ts';
import { DiskProbes } from '../host/disks/probe.ts';
import { exec } from '../host/exec.ts';
import { ensureOwnDirectory, ensurePrivateDirectory } from '../host/files.ts';
import { ensureClientKey } from '../host/keys.ts';
import { mayAdministerNetwork } from '../host/network/rights.ts';
import { closeInheritedDescriptors } from '../host/process.ts';
import { requireSpareDescriptors } from '../host/spare-descriptors.ts';
import { loadConfig } from '../state/config.ts';
import {
  closeEngineDatabase,
  openEngineDatabase,
  reserveRoom,
  type Database,
  type SqliteAddon,
} from '../state/database.ts';
import { hostMarkersDirectory, vmPaths, type Layout } from '../state/layout.ts';
import { watchRows } from '../state/row-changes.ts';
import { findVm } from '../state/vms.ts';
import { cancelOperations } from './cancel-operations.ts';
import type { EngineContext } from './context.ts';
import { EgressKeeper } from './egress/egress-keeper.ts';
import { EventBus } from './events.ts';
import type { Failpoints } from './failpoints.ts';
import { GuestPool } from './guest-pool.ts';
import { HandleCache } from './handles.ts';
import { Haste } from './haste.ts';
import { IdleTimer } from './idle-timer.ts';
import { leaveOnBugs } from './last-resort.ts';
import { builtInCapabilities } from './lifecycle/capabilities.ts';
import { GuestClocks } from './lifecycle/guest-clocks.ts';
import { countRunning, listen } from './listen.ts';
import { createLocks } from './locks.ts';
import { keepVmLogs, LogKeeper } from './log-keeper.ts';
import { lastGood, once } from './once.ts';
import { openLog, type Log } from './log.ts';
import { openNames } from './names/open-names.ts';
import type { OwnProgram } from './names/ssh-config.ts';
import { operationEvent } from './operation-routes.ts';
import { OperationRegistry } from './operations.ts';
import { ResolverKeeper } from './network/resolver-keeper.ts';
import { DatagramKeeper } from './ports/datagram-keeper.ts';
import { PortFollowers } from './ports/port-followers.ts';
import { SocketKeeper } from './ports/socket-keeper.ts';
import { reconcile } from './reconciler.ts';
import { holdOptimizer } from './optimizer.ts';
import { MemoryRest } from './rest.ts';
import type { BuildIdentity } from './rpc/client.ts';
import { takeStateDirectory } from './state-directory.ts';
import { settleBeforeUse } from './workspace/sending/settle-sends.ts';
import { StopTimers } from './stop-timers.ts';
import { vmmChooser } from './vmm-chooser.ts';
import { vmmDrivers } from './vmm-drivers.ts';

export interface EngineInput {
  readonly layout: Layout;
  readonly assets: Assets;
  readonly build: BuildIdentity;
  readonly addon: SqliteAddon;
  /** How this banger is run again by other programs */
  readonly program: OwnProgram;
  /** Absent in what is released */
  readonly failpoints?: Failpoints;
}

const reserveDelayMs = 250;

/**
 * The engine process: takes the state directory, makes world and database agree, and answers until it has been
 * idle for long enough or is told to stop. Returns when it is over; VMs go on running.
 *
 * Returns at once, having changed nothing, when another engine owns the state directory.
 */
export async function runEngine(input: EngineInput): Promise<void> {
  closeInheritedDescriptors();
  holdOptimizer();
  process.umask(0o077);
  const { layout, build } = input;
  ensureOwnDirectory(layout.stateDirectory);
  ensurePrivateDirectory(layout.runtimeDirectory);
  const lock = await takeStateDirectory(layout, input.addon);
  if (!lock) return;

  // A wrong configuration is told at once, by the first command that needs the engine.
  loadConfig(layout.configFile);
  const log = openLog(layout.engineLog);
  log('info', 'engine starts', { pid: process.pid, version: build.version, build: build.buildId });
  const db = openEngineDatabase(layout, input.addon);
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort(signal));
  process.on('SIGHUP', () => log('info', 'SIGHUP ignored'));
  const stopLooking = leaveOnBugs({
    log,
    leave: () => {
      process.exitCode = 1;
      stop.abort('a bug');
    },
    end: () => process.kill(process.pid, 'SIGKILL'),
  });

  const idle = new IdleTimer(() => stop.abort('idle'));
  const context = createContext({ ...input, db, log, onVmsChanged: () => idle.look() });
  const quiet = { kind: 'engine.reconcile', signal: new AbortController().signal };
  context.logs.keep(layout.engineLog);
  await context.operations.run(quiet, () => reconcile(context));
  keepVmLogs(context);
  const resolvers = new ResolverKeeper(context);
  resolvers.start();
  const clocks = new GuestClocks(context);
  clocks.start();
  // What may fail comes before the socket is there: a client that has reached an engine takes its end for a farewell.
  const idleTimeoutMs = lastGood(() => context.config().engineIdleTimeoutMs);
  requireSpareDescriptors();
  const names = openNames(context, input.program);
  const server = await listen(context, input, { stop, idle, names });
  // Whoever started us has asked something: that comes first.
  setTimeout(() => takeRoom(db, log), reserveDelayMs).unref();
  idle.start({
    timeoutMs: idleTimeoutMs,
    isIdle: () => context.operations.runningCount === 0 && countRunning(context) === 0,
  });
  context.operations.onIdle(() => idle.look());
  const rest = new MemoryRest(() => context.operations.runningCount === 0);
  context.operations.onIdle(() => rest.look());

  await new Promise<void>((resolve) => {
    if (stop.signal.aborted) resolve();
    else stop.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  log('info', 'engine stops', { reason: String(stop.signal.reason) });
  idle.close();
  rest.close();
  server.close();
  await cancelOperations(context.operations, log);
  await server.hangUp();
  context.stopTimers.close();
  await names.close();
  resolvers.close();
  clocks.close();
  context.logs.close();
  context.egress.close();
  context.portFollowers.close();
  context.datagrams.close();
  context.sockets.close();
  context.guests.closeAll();
  closeEngineDatabase(db);
  lock.close();
  stopLooking();
}

function createContext(
  input: EngineInput & { db: Database; log: Log; onVmsChanged: () => void },
): EngineContext {
  const { layout, db, log, assets } = input;
  const handles = new HandleCache((id) => vmPaths(layout, id).handles);
  const clientKey = once(() => ensureClientKey(layout.clientKey));
  const guests = new GuestPool(handles, clientKey, (id) => findVm(db, id)?.state === 'paused');
  const config = () => loadConfig(layout.configFile);
  const events = new EventBus((error) => log('error', `event listener: ${errorText(error)}`));
  watchRows(db, (change) => events.publish(change));
  const context: EngineContext = {
    layout,
    db,
    locks: createLocks(),
    haste: new Haste(),
    operations: new OperationRegistry(
      input.failpoints,
      (view) => events.publish(operationEvent(view)),
      (error) => explainHostError(error, layout.stateDirectory) ?? error,
    ),
    events,
    log,
    logs: new LogKeeper({ limitBytes: lastGood(() => config().logBytes), log }),
    exec,
    diskProbes: new DiskProbes(exec),
    assets,
    config,
    handles,
    capabilities: builtInCapabilities,
    hostNetwork: { mayAdminister: mayAdministerNetwork, forwarding: { markers: hostMarkersDirectory } },
    guests,
    egress: new EgressKeeper(() => context),
    portFollowers: new PortFollowers(() => context),
    datagrams: new DatagramKeeper(() => context),
    sockets: new SocketKeeper(() => context),
    clientKey,
    driver: vmmDrivers(config),
    controls: new Map(),
    vmmSignals: new Map(),
    ...vmmChooser(input, config),
    onVmsChanged: input.onVmsChanged,
    guest: async (vm, signal, options) => {
      const guest = await guests.guest(vm, signal, options);
      await settleBeforeUse(context, { vm, guest }, signal);
      return guest;
    },
    stopTimers: new StopTimers(() => context),
  };
  return context;
}

function takeRoom(db: Database, log: Log): void {
  try {
    if (db.open) reserveRoom(db);
  } catch (error) {
    log('warn', `no room could be reserved for the database: ${errorText(error)}`);
  }
}
