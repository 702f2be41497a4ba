import type { DiskFormat } from '../disks/disk-method.ts';
import type { ProcessIdentity } from '../process.ts';

/** How a guest's CPU runs: by the processor (KVM), or emulated (TCG). */
export type Acceleration = 'kvm' | 'tcg';

export const driverNames = ['qemu', 'firecracker'] as const;
export type DriverName = (typeof driverNames)[number];

/** A port of the host that leads into the guest. */
export interface PortForward {
  readonly protocol: 'tcp' | 'udp';
  /** IPv4 address of the host that it listens on; `0.0.0.0` means all */
  readonly bind: string;
  readonly hostPort: number;
  readonly guestPort: number;
}

/** A TCP port that only this host can reach. */
export function loopbackForward(hostPort: number, guestPort: number): PortForward {
  return { protocol: 'tcp', bind: '127.0.0.1', hostPort, guestPort };
}

/** True when both take the same port of the host, wherever they lead. */
export function isSameHostPort(one: PortForward, other: PortForward): boolean {
  return one.protocol === other.protocol && one.bind === other.bind && one.hostPort === other.hostPort;
}

/** A network that the VMM itself is: no rights are needed for it. Forwarded ports lead in. */
export interface UserNetwork {
  readonly forwards: readonly PortForward[];
  readonly reach: Reach;
}

/** `all`: a guest reaches out through the host's own sockets; `none`: nothing gets out, only forwards lead in */
export type Reach = 'all' | 'none';

/** What a VMM says of how far its guest reaches. */
export interface FoundReach {
  readonly reach: Reach;
  /** False when it was started in a way in which that is for good */
  readonly canChange: boolean;
}

/** A tap device of the host that exists, and that we may open. */
export interface TapNetwork {
  readonly tap: string;
  /** Of the guest's card */
  readonly mac: string;
  /** The guest's own address there, at which the host reaches it */
  readonly address: string;
}

/**
 * The guest's networks: none, either, or both. With both, the tap is its way out, and the user network a way in beside
 * it: by a card of its own (`accessCard`) under QEMU, to its address on the tap under Firecracker.
 */
export interface VmmNetwork {
  readonly user?: UserNetwork;
  readonly tap?: TapNetwork;
}

/** The address of the guest on a user network that is its only one. */
export const userCard = { address: '10.0.2.15/24', gateway: '10.0.2.2', dns: '10.0.2.3' } as const;

/** The guest's card on a user network beside a tap. A link-local network: no destination of a guest's is hidden by it. */
export const accessCard = {
  mac: '02:00:00:00:00:01',
  network: '169.254.77.0/24',
  host: '169.254.77.2',
  address: '169.254.77.15/24',
} as const;

/** What a VMM opens as a VM's root disk. */
export interface VmmDisk {
  readonly path: string;
  readonly format: DiskFormat;
  /** Read and written, together; absent: as fast as it can */
  readonly bytesPerSecond?: number;
}

/** Everything a VMM needs to know to run one VM. */
export interface VmmSpec {
  /** Named on the command line, so that a lost VMM can be found again */
  readonly id: string;
  readonly cpus: number;
  readonly memoryMib: number;
  readonly kernel: string;
  readonly initrd: string;
  /** Absent for a machine without a root disk, as the boot probe uses */
  readonly disk?: VmmDisk;
  /** Guest console output; replaced at each start */
  readonly consoleLog: string;
  /** What the VMM itself says */
  readonly vmmLog: string;
  readonly controlSocket: string;
  readonly network: VmmNetwork;
  readonly acceleration: Acceleration;
  /** Told when the process ends, if that is while we live; the signal that ended it, such as `SIGKILL` */
  readonly onExit?: (signal: NodeJS.Signals | undefined) => void;
  /** Words added to the kernel's command line */
  readonly kernelWords?: readonly string[];
}

/** How a guest ended by itself. */
export type GuestEnd = 'power-off' | 'reset' | 'panic';

/** A live VMM, and what its command line tells of how it was started. */
export interface FoundVmm {
  readonly driver: DriverName;
  readonly process: ProcessIdentity;
  readonly forwards: readonly PortForward[];
  readonly acceleration: Acceleration;
  /** Absent where the command line does not tell */
  readonly cpus?: number;
  readonly memoryMib?: number;
}

/** A VMM that runs, and the files by which it is talked to and understood. */
export interface RunningVmm {
  readonly process: ProcessIdentity;
  readonly controlSocket: string;
  readonly consoleLog: string;
  readonly vmmLog: string;
  /** The file of its root disk */
  readonly disk: string;
}

/**
 * What a VMM does with its guest. `disk-full` is a guest that stands still because the host has no room for a write,
 * `disk-failed` one that does because the host did not take it for another reason: a quota, or a disk that fails.
 */
export type GuestActivity = 'running' | 'paused' | 'disk-full' | 'disk-failed' | 'other';

/** A VMM's control connection. Its calls throw `timeout` when the VMM does not answer. */
export interface VmmControl {
  /** Presses the power button. What the guest makes of it is up to the guest. */
  pressPowerButton(): Promise<void>;
  /** Makes the guest's processors stand still. One that stands still is left alone. */
  pause(): Promise<void>;
  /** Lets the guest go on. One that runs is left alone. */
  resume(): Promise<void>;
  activity(timeoutMs?: number): Promise<GuestActivity>;
  /** Calls back whenever the guest stops or goes on, whoever asked for it */
  onActivity(listener: () => void): void;
  /** Makes the guest's root disk larger while it runs. The caller sees to it that it never becomes smaller. */
  growDisk(sizeBytes: number): Promise<void>;
  /** Ports that lead into the guest now */
  forwards(): Promise<readonly PortForward[]>;
  /** Throws `busy` when the port is taken */
  addForward(port: PortForward): Promise<void>;
  /** One that is not there counts as removed */
  removeForward(port: PortForward): Promise<void>;
  /** How far the guest reaches over the user network; undefined when it has none */
  reach(): Promise<FoundReach | undefined>;
  /**
   * Changes that. Connections over the network may end, those by which ports lead in too. Throws `invalid_state`
   * when a port could not be had again; when it fails halfway, the guest reaches nothing.
   */
  setReach(reach: Reach): Promise<void>;
  /** Settles when the VMM has closed the connection, which it does when it ends; says why the guest ended, if it did */
  readonly closed: Promise<GuestEnd | undefined>;
  close(): void;
}

/** Our code for one kind of VMM. */
export interface VmmDriver {
  readonly name: DriverName;
  /**
   * Starts the VMM in a session of its own and returns as soon as it runs; the guest is not up yet.
   * Throws `busy` when a forwarded port was taken meanwhile: the caller picks another.
   */
  start(spec: VmmSpec, signal: AbortSignal): Promise<ProcessIdentity>;
  /** The live VMM of a VM, found by its command line; undefined when there is none */
  find(id: string): FoundVmm | undefined;
  control(vmm: RunningVmm): Promise<VmmControl>;
}
