import type { ClientStream } from '../engine/rpc/client.ts';

/** The engine's exit frame: how the program ended, and whatever else the method tells. */
export interface GuestExit {
  readonly code?: number;
  readonly signal?: string;
  readonly [key: string]: unknown;
}

export interface ProgramTerminal {
  readonly term: string;
  readonly columns: number;
  readonly rows: number;
}

export interface LocalStreams {
  readonly stdin: NodeJS.ReadStream;
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
}

const interruptedExitCode = 130;

/** A stream that is being carried. */
export interface Attachment {
  /** True while the program runs: from the engine's first credit to `letGo` */
  readonly isRunning: () => boolean;
  /** Gives the terminal back: the program has ended, though the engine may still be busy with what follows */
  letGo(): void;
  readonly ended: Promise<GuestExit>;
}

/**
 * Carries bytes between this process and a program in a guest until it ends, with back-pressure both ways.
 *
 * Input is read from the moment the program runs, and as far as the engine gives credit. With a terminal, keys then
 * go to the guest as they are (raw mode) and the window size follows; until then Ctrl-C is ours.
 */
export function attachStream(stream: ClientStream, streams: LocalStreams, hasTerminal: boolean): Attachment {
  const { stdout, stderr } = streams;
  let stdin: NodeJS.ReadStream | undefined;
  let credit = 0;

  const onData = (chunk: Buffer): void => {
    credit -= chunk.length;
    stream.send('stdin', chunk);
    if (credit <= 0) stdin?.pause();
  };
  const onEnd = (): void => void stream.send('stdin-end');
  const onResize = (): void => {
    stream.send('resize', JSON.stringify({ columns: stdout.columns, rows: stdout.rows }));
  };
  const start = (): void => {
    stdin = streams.stdin;
    stdin.on('data', onData);
    stdin.on('end', onEnd);
    if (hasTerminal) {
      stdin.setRawMode(true);
      stdout.on('resize', onResize);
      // It may have changed while the VM was booting.
      onResize();
    }
    // Whoever has asked a question before has paused it, and let go of it.
    stdin.ref?.();
    stdin.resume();
  };
  const letGo = (): void => {
    if (!stdin) return;
    if (hasTerminal) stdin.setRawMode(false);
    stdin.off('data', onData);
    stdin.off('end', onEnd);
    stdout.off('resize', onResize);
    stdin.pause();
    // A pipe that nobody writes to must not keep this process alive.
    stdin.unref?.();
    stdin = undefined;
  };

  stream.onFrame((frame) => {
    if (frame.type === 'credit') {
      credit += Number(frame.payload.toString());
      if (stdin) stdin.resume();
      else start();
    } else if (frame.type === 'stdout' || frame.type === 'stderr') {
      const out = frame.type === 'stdout' ? stdout : stderr;
      if (out.write(frame.payload)) return;
      stream.pause();
      out.once('drain', () => stream.resume());
    }
  });
  return { isRunning: () => stdin !== undefined, letGo, ended: stream.ended.finally(letGo) };
}

/** A program's end as a shell's `$?`: its own code, or 128 and the number of the signal. */
export function exitCodeOf(exit: GuestExit, signals: Readonly<Record<string, number>>): number {
  if (exit.code !== undefined) return exit.code;
  if (exit.signal === 'INT') return interruptedExitCode;
  return 128 + (signals[`SIG${exit.signal}`] ?? 0);
}
