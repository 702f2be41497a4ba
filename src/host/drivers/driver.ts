import type { ProcessIdentity } from '../process.ts';

/** How a guest's CPU runs: by the processor (KVM), or emulated (TCG). */
export type Acceleration = 'kvm' | 'tcg';

export type DriverName = 'qemu';

/** A TCP port of the host's loopback that leads into the guest. */
export interface PortForward {
  readonly hostPort: number;
  readonly guestPort: number;
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
  readonly disk?: string;
  /** Guest console output; replaced at each start */
  readonly consoleLog: string;
  /** What the VMM itself says */
  readonly vmmLog: string;
  readonly controlSocket: string;
  readonly forwards: readonly PortForward[];
  readonly acceleration: Acceleration;
  /** Words added to the kernel's command line */
  readonly kernelWords?: readonly string[];
}

/** How a guest ended by itself. */
export type GuestEnd = 'power-off' | 'reset' | 'panic';

/** A live VMM, and what its command line tells of how it was started. */
export interface FoundVmm {
  readonly process: ProcessIdentity;
  readonly forwards: readonly PortForward[];
  readonly acceleration: Acceleration;
}

/** A VMM's control connection. */
export interface VmmControl {
  /** Presses the power button. What the guest makes of it is up to the guest. */
  pressPowerButton(): Promise<void>;
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
  control(socket: string): Promise<VmmControl>;
}
