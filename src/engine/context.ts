import type { Assets } from '../host/assets.ts';
import type { DiskProbes } from '../host/disks/probe.ts';
import type { DriverName, VmmControl, VmmDriver } from '../host/drivers/driver.ts';
import type { Exec } from '../host/exec.ts';
import type { Forwarding } from '../host/network/forwarding.ts';
import type { ClientKey } from '../host/keys.ts';
import type { VmmChoice, VmmNeeds } from '../host/vmm-choice.ts';
import type { Config } from '../state/config.ts';
import type { Database } from '../state/database.ts';
import type { Layout } from '../state/layout.ts';
import type { EgressKeeper } from './egress/egress-keeper.ts';
import type { EventBus } from './events.ts';
import type { GuestPool } from './guest-pool.ts';
import type { HandleCache } from './handles.ts';
import type { Haste } from './haste.ts';
import type { EngineLocks } from './locks.ts';
import type { Capability } from './lifecycle/capabilities.ts';
import type { LogKeeper } from './log-keeper.ts';
import type { Log } from './log.ts';
import type { OperationRegistry } from './operations.ts';
import type { DatagramKeeper } from './ports/datagram-keeper.ts';
import type { PortFollowers } from './ports/port-followers.ts';
import type { SocketKeeper } from './ports/socket-keeper.ts';
import type { StopTimers } from './stop-timers.ts';

/** What every part of the engine works with. Made once in `main.ts`; tests make their own. */
export interface EngineContext {
  readonly layout: Layout;
  readonly db: Database;
  readonly locks: EngineLocks;
  /** Lets those who kill a VM past those who wait for its guest */
  readonly haste: Haste;
  readonly operations: OperationRegistry;
  readonly events: EventBus;
  readonly log: Log;
  /** Logs that are cut when they grow too long, and those who read along */
  readonly logs: LogKeeper;
  readonly exec: Exec;
  /** Which ways there are to make root disks */
  readonly diskProbes: Pick<DiskProbes, 'reflink' | 'dmSnapshot'>;
  readonly assets: Assets;
  /** The configuration as the file says now; throws when it is wrong */
  readonly config: () => Config;
  readonly handles: HandleCache;
  /** Features that touch host and guest, in the order in which they are set up */
  readonly capabilities: readonly Capability[];
  /** What bridges are made with; tests have switches of their own */
  readonly hostNetwork: {
    /** False: only those that were made for our user can be used */
    readonly mayAdminister: () => boolean;
    readonly forwarding: Forwarding;
    /** Where "host setup" says what it made; absent: where it does */
    readonly setups?: string;
  };
  /** Connections to guests; `guest` below is the way to use them */
  readonly guests: Pick<GuestPool, 'connect' | 'drop' | 'closeAll' | 'activity'>;
  /** Proxies by which guests with rules reach the outside */
  readonly egress: EgressKeeper;
  /** Publishes what listens in VMs that want it so */
  readonly portFollowers: PortFollowers;
  /** UDP ports of the host that lead into VMs from which the VMM lets no answers out */
  readonly datagrams: DatagramKeeper;
  /** Unix sockets of the host that lead into VMs */
  readonly sockets: SocketKeeper;
  /** Stops VMs whose time is over */
  readonly stopTimers: StopTimers;
  /** The key pair by which guests know us, made on first use */
  readonly clientKey: () => Promise<ClientKey>;
  readonly driver: (name: DriverName) => VmmDriver;
  /**
   * Control connections of running VMs, by VM id: a VMM serves one client at a time, so there is one to share.
   * `vmmControl` is the way to use them.
   */
  readonly controls: Map<string, Promise<VmmControl>>;
  /** How VMMs that this engine started have ended, until somebody has told of it; by VM id */
  readonly vmmSignals: Map<string, NodeJS.Signals>;
  /** By what the next VM is run; throws `host_unsupported` when the configuration insists on what does not work */
  readonly chooseVmm: (needs: VmmNeeds) => Promise<VmmChoice>;
  /** Whether a new VM on a network will be run by a VMM that reads plain disks only */
  readonly wantsRawDisk: (needs: Omit<VmmNeeds, 'disk'>) => Promise<boolean>;
  /** Told when the number of running VMs may have changed: the engine's idle timer looks again */
  readonly onVmsChanged: () => void;
  /** The way into a running VM; throws `invalid_state` when it is not running, `guest_unreachable` when it does not answer */
  readonly guest: GuestPool['guest'];
}

/** What work on images needs of the engine. */
export type ImageContext = Pick<EngineContext, 'layout' | 'db' | 'locks' | 'log' | 'assets' | 'config'>;

/** What work on workspaces needs of the engine. */
export type WorkspaceContext = Pick<
  EngineContext,
  'layout' | 'db' | 'locks' | 'log' | 'assets' | 'exec' | 'guest'
>;
