import type { Duplex, Readable } from 'node:stream';

/** How a program in a guest ended. */
export interface GuestExit {
  /** Absent when a signal ended it */
  readonly code?: number;
  /** Without `SIG`, such as `TERM` */
  readonly signal?: string;
}

/** Where and how a program runs in a guest. */
export interface GuestExecOptions {
  readonly workingDirectory?: string;
  /** A working directory that does not exist is no error: the home directory is used */
  readonly fallBackToHome?: boolean;
  readonly env?: Readonly<Record<string, string>>;
  readonly user?: string;
  readonly terminal?: { readonly term: string; readonly columns: number; readonly rows: number };
  /** Left in the guest for this program by `deliverSecrets` */
  readonly secrets?: DeliveredSecrets;
  /** Unix socket of this host where an SSH agent listens that the program may use */
  readonly agentSocket?: string;
  readonly signal?: AbortSignal;
  /** It is sent a hang-up when the signal aborts, as a shell does whose terminal has gone; without, it may run on */
  readonly hangsUp?: boolean;
}

/** Where the guest finds the secrets of one program, and what they are called. */
export interface DeliveredSecrets {
  readonly id: string;
  readonly names: readonly string[];
}

/** A program running in a guest. Reading and writing apply back-pressure all the way to it. */
export interface GuestProcess {
  /** Writes are its standard input, reads its standard output; `end()` closes the input */
  readonly stdio: Duplex;
  readonly stderr: Readable;
  /** Settles when the program has ended and its output was delivered; rejects `guest_unreachable` when the connection is lost */
  readonly exit: Promise<GuestExit>;
  resize(columns: number, rows: number): void;
  sendSignal(name: string): void;
  /** Ends the channel; the guest sends the program a hang-up */
  close(): void;
}

/** A program's collected output. */
export interface GuestOutput {
  readonly exit: GuestExit;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** The way into a running guest, over SSH connections that stay open. */
export interface Guest {
  /** Runs a program directly, without a shell, in the image's own root */
  spawn(argv: readonly string[], options?: GuestExecOptions): Promise<GuestProcess>;
  /** Runs one of the toolbox's programs (busybox applets) in the image's root, whatever the image has */
  spawnToolbox(argv: readonly string[], options?: GuestExecOptions): Promise<GuestProcess>;
  /**
   * Connects to a Unix socket of the image's. Each direction of the stream ends by itself, as those of a socket do;
   * a socket that cannot be connected to ends it with another exit code than 0, and `stderr` says why. Throws
   * `invalid_state` when the guest was started by a banger that could not do this.
   */
  connectSocket(path: string, options?: Pick<GuestExecOptions, 'signal'>): Promise<GuestProcess>;
  /**
   * Carries datagrams to a UDP port of the guest and back, each in a frame (see `DatagramFrames`). Throws
   * `invalid_state` when the guest was started by a banger that could not do this.
   */
  connectDatagrams(
    place: { readonly address: string; readonly port: number },
    options?: Pick<GuestExecOptions, 'signal'>,
  ): Promise<GuestProcess>;
  /** An interactive login shell */
  shell(options: GuestExecOptions): Promise<GuestProcess>;
  /** Runs a program to completion with collected output (at most 64 MiB), whatever its exit code */
  run(
    argv: readonly string[],
    options?: GuestExecOptions & { readonly input?: Buffer | Readable },
  ): Promise<GuestOutput>;
  /** Like `run`, with a program of the toolbox */
  runToolbox(
    argv: readonly string[],
    options?: GuestExecOptions & { readonly input?: Buffer | Readable },
  ): Promise<GuestOutput>;
  /** Flushes the guest's disks, then asks it to power off. Resolves once flushed. */
  powerOff(signal: AbortSignal): Promise<void>;
}
