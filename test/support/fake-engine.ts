import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { BangerError } from '../../src/errors.ts';
import type { EngineContext } from '../../src/engine/context.ts';
import { EgressKeeper } from '../../src/engine/egress/egress-keeper.ts';
import { EventBus } from '../../src/engine/events.ts';
import type { Guest } from '../../src/engine/guest.ts';
import { HandleCache } from '../../src/engine/handles.ts';
import { Haste } from '../../src/engine/haste.ts';
import { builtInCapabilities } from '../../src/engine/lifecycle/capabilities.ts';
import { createLocks } from '../../src/engine/locks.ts';
import { LogKeeper } from '../../src/engine/log-keeper.ts';
import { OperationRegistry } from '../../src/engine/operations.ts';
import {
  isSameHostPort,
  loopbackForward,
  type DriverName,
  type GuestActivity,
  type GuestEnd,
  type PortForward,
  type Reach,
  type VmmControl,
  type VmmDriver,
  type VmmSpec,
} from '../../src/host/drivers/driver.ts';
import { ensureClientKey } from '../../src/host/keys.ts';
import { identifyProcess, isAlive, killProcess, type ProcessIdentity } from '../../src/host/process.ts';
import { DatagramKeeper } from '../../src/engine/ports/datagram-keeper.ts';
import { PortFollowers } from '../../src/engine/ports/port-followers.ts';
import { SocketKeeper } from '../../src/engine/ports/socket-keeper.ts';
import { StopTimers } from '../../src/engine/stop-timers.ts';
import { parseConfig } from '../../src/state/config.ts';
import { openDatabase } from '../../src/state/database.ts';
import { insertImage, setImageName } from '../../src/state/images.ts';
import { imagePaths, resolveLayout, vmPaths } from '../../src/state/layout.ts';
import { watchRows } from '../../src/state/row-changes.ts';
import { fakeLog } from './fakes.ts';

export const testImageId = 'a'.repeat(64);
export const readyLine =
  'banger-ready v=5 kernel=1.0 modules=1.1 root=1.2 network=1.2 ssh=1.3 init=image shell=/bin/sh boot_id=b00t\n';

/** Points where a test can make the world fail. */
export interface Faults {
  disk?: Error;
  choice?: Error;
  /** The command line of a VMM does not tell which ports lead in */
  tellsNoForwards?: boolean;
  /** By whose driver VMs are run; QEMU's unless given */
  driver?: DriverName;
  spawn?: Error;
  /** What the guest prints instead of its ready line, before its VMM ends */
  console?: string;
  connect?: Error;
  powerOff?: Error;
  /** The guest says that it has flushed, and goes on */
  powersOffLater?: boolean;
  /** What pausing, resuming and growing a disk run into */
  control?: Error;
  addForward?: Error;
  /** What happens when the power button is pressed; nothing without */
  onPowerButton?: (machine: FakeMachine, vmm: ProcessIdentity) => Promise<void>;
  /** What toolbox programs print */
  toolboxOutput?: string;
  /** There are no rights to make bridges */
  isUnprivileged?: boolean;
  /** Somebody runs a program in every guest */
  isBusy?: boolean;
}

/** The inside of a VMM. */
export interface FakeMachine {
  activity: GuestActivity;
  forwards: PortForward[];
  reach: Reach;
  diskBytes?: number;
  /** What its VMM tells when it ends */
  end?: GuestEnd;
  readonly listeners: (() => void)[];
}

export interface FakeEngine {
  readonly context: EngineContext;
  readonly faults: Faults;
  readonly log: string[];
  /** VMMs alive now, by VM id */
  readonly vmms: ReadonlyMap<string, ProcessIdentity>;
  readonly specs: VmmSpec[];
  /** What the VMM of each VM would show, by VM id */
  readonly machines: ReadonlyMap<string, FakeMachine>;
  /** Toolbox programs that were run in guests */
  readonly toolboxRuns: readonly (readonly string[])[];
  /** Firewall rules in the order in which they were put in place */
  readonly rulesets: readonly string[];
  close(): Promise<void>;
}

/**
 * An engine with a real database, real files in a temporary directory, and VMMs that are real processes (`sleep`),
 * so that identity, killing and adoption are the real thing. Guest and disk are fakes that fail on command.
 */
export function fakeEngine(): FakeEngine {
  const root = mkdtempSync(join(tmpdir(), 'banger-engine-'));
  const layout = resolveLayout({ env: { BANGER_HOME: root }, home: root, uid: 0, temporaryDirectory: root });
  const db = openDatabase(':memory:');
  const { log, lines } = fakeLog();
  const faults: Faults = {};
  const vmms = new Map<string, ProcessIdentity>();
  /** Settle when a VMM ends, by pid */
  const exits = new Map<number, Promise<unknown>>();
  const specs: VmmSpec[] = [];
  const machines = new Map<string, FakeMachine>();
  const toolboxRuns: (readonly string[])[] = [];
  const rulesets: string[] = [];
  addImage();

  const driver: VmmDriver = {
    name: 'qemu',
    start: async (spec) => {
      specs.push(spec);
      if (faults.spawn) throw faults.spawn;
      const child = spawn('sleep', ['600'], { stdio: 'ignore' });
      const identity = identifyProcess(child.pid!)!;
      exits.set(identity.pid, once(child, 'exit'));
      vmms.set(spec.id, identity);
      machines.set(spec.id, {
        activity: 'running',
        forwards: [...(spec.network.user?.forwards ?? [])],
        reach: spec.network.user?.reach ?? 'none',
        listeners: [],
      });
      writeFileSync(spec.consoleLog, faults.console ?? readyLine);
      if (faults.console !== undefined) await killProcess(identity);
      return identity;
    },
    find: (id) => {
      const process = vmms.get(id);
      if (!process || !isAlive(process)) return undefined;
      const { cpus, memoryMib } = specs.findLast((spec) => spec.id === id)!;
      return {
        driver: 'qemu',
        process,
        forwards: faults.tellsNoForwards ? [] : [loopbackForward(4242, 1022)],
        acceleration: 'tcg',
        cpus,
        memoryMib,
      };
    },
    control: ({ controlSocket }) => Promise.resolve(fakeControl(controlSocket)),
  };

  function fakeControl(socket: string): VmmControl {
    const id = [...vmms.keys()].find(
      (one) => basename(vmPaths(layout, one).controlSocket) === basename(socket),
    )!;
    const process = vmms.get(id);
    const machine = machines.get(id)!;
    const closed = Promise.resolve(process && exits.get(process.pid)).then(() => machine.end);
    const act = (activity: GuestActivity) => async (): Promise<void> => {
      if (faults.control) throw faults.control;
      machine.activity = activity;
    };
    return {
      pressPowerButton: async () => {
        if (faults.onPowerButton) await faults.onPowerButton(machine, process!);
      },
      pause: act('paused'),
      resume: act('running'),
      activity: async () => machine.activity,
      onActivity: (listener) => void machine.listeners.push(listener),
      growDisk: async (sizeBytes) => {
        if (faults.control) throw faults.control;
        machine.diskBytes = sizeBytes;
      },
      forwards: async () => [...machine.forwards],
      addForward: async (port) => {
        if (faults.addForward) throw faults.addForward;
        machine.forwards.push(port);
      },
      removeForward: async (port) => {
        machine.forwards = machine.forwards.filter((one) => !isSameHostPort(one, port));
      },
      reach: async () => ({ reach: machine.reach, canChange: true }),
      setReach: async (reach) => {
        if (faults.control) throw faults.control;
        machine.reach = reach;
      },
      closed,
      close: () => undefined,
    };
  }

  function addImage(): void {
    const rootfs = imagePaths(layout, testImageId).rootfs;
    mkdirSync(dirname(rootfs), { recursive: true });
    writeFileSync(rootfs, 'x'.repeat(1024));
    insertImage(db, {
      id: testImageId,
      source: 'import',
      sizeBytes: 1024,
      contentBytes: 1024,
      config: { workingDirectory: "srv/it's", env: ["GREETING=it's me", 'my.app=left out'] },
      layers: [],
      osRelease: {},
      hasShell: true,
      createdAt: new Date().toISOString(),
    });
    setImageName(db, 'test', testImageId);
  }

  const events = new EventBus((error) => lines.push(`event listener: ${String(error)}`));
  watchRows(db, (change) => events.publish(change));
  const asset = join(root, 'asset');
  writeFileSync(asset, 'asset!!!');
  writeFileSync(join(root, 'ip_forward'), '0\n');
  const context: EngineContext = {
    layout,
    db,
    locks: createLocks(),
    haste: new Haste(),
    operations: new OperationRegistry(),
    events,
    log,
    logs: new LogKeeper({ limitBytes: () => 8 * 1024 * 1024, log }),
    exec: async (argv, options) => {
      if (faults.disk) throw faults.disk;
      if (argv[0] === 'nft' && argv[1] === '-f') rulesets.push(String(options?.input));
      if (argv[0] === 'qemu-img') writeFileSync(argv.at(-2)!, qcow2Header(Number(argv.at(-1))));
      return { exitCode: 0, stdout: Buffer.alloc(0), stderr: '' };
    },
    diskProbes: {
      reflink: async () => ({ works: false, reason: 'not in this test' }),
      dmSnapshot: async () => ({ works: false, reason: 'not in this test' }),
    },
    assets: {
      buildId: 'test',
      file: async () => asset,
      open: () => {
        throw new Error('not in this test');
      },
    },
    config: () => parseConfig('[vm]\nimage = "test"\nmemory = "128M"\n', 'config.toml'),
    capabilities: builtInCapabilities,
    hostNetwork: {
      mayAdminister: () => !faults.isUnprivileged,
      forwarding: { file: join(root, 'ip_forward'), markers: join(root, 'markers') },
      setups: join(root, 'setups'),
    },
    handles: new HandleCache((id) => vmPaths(layout, id).handles),
    clientKey: () => ensureClientKey(layout.clientKey),
    guests: {
      connect: () => Promise.reject(new Error('not in this test')),
      drop: () => undefined,
      closeAll: () => undefined,
      activity: () => ({ isBusy: faults.isBusy ?? false, lastUsedMs: 0 }),
    },
    egress: new EgressKeeper(() => context),
    portFollowers: new PortFollowers(() => context),
    datagrams: new DatagramKeeper(() => context),
    sockets: new SocketKeeper(() => context),
    stopTimers: new StopTimers(() => context),
    driver: () => driver,
    controls: new Map(),
    vmmSignals: new Map(),
    wantsRawDisk: async () => false,
    chooseVmm: async () => {
      if (faults.choice) throw faults.choice;
      return { driver: faults.driver ?? 'qemu', acceleration: 'tcg', reason: 'for tests' };
    },
    onVmsChanged: () => undefined,
    guest: async (vm) => {
      if (faults.connect) throw faults.connect;
      const runToolbox = async (argv: readonly string[]) => {
        toolboxRuns.push(argv);
        return { exit: { code: 0 }, stdout: Buffer.from(faults.toolboxOutput ?? ''), stderr: '' };
      };
      return {
        powerOff: async () => (faults.powersOffLater ? undefined : powerOff(vm.id)),
        runToolbox,
      } as unknown as Guest;
    },
  };

  async function powerOff(id: string): Promise<void> {
    if (faults.powerOff) throw faults.powerOff;
    await killProcess(vmms.get(id)!);
  }

  return {
    context,
    faults,
    log: lines,
    vmms,
    specs,
    machines,
    toolboxRuns,
    rulesets,
    close: async () => {
      context.stopTimers.close();
      context.egress.close();
      context.portFollowers.close();
      context.sockets.close();
      for (const process of vmms.values()) if (isAlive(process)) await killProcess(process);
      db.close();
      rmSync(root, { recursive: true, force: true });
    },
  };
}

export const unreachable = new BangerError('guest_unreachable', 'The guest does not answer');

/** Of a disk of a size, as far as its size is concerned. */
function qcow2Header(sizeBytes: number): Buffer {
  const header = Buffer.alloc(32);
  header.write('QFI\xfb', 'latin1');
  header.writeBigUInt64BE(BigInt(sizeBytes), 24);
  return header;
}
