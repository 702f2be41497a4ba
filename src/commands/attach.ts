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

/**
 * Carries bytes between this process and a program in a guest until it ends, with back-pressure both ways.
 *
 * With a terminal, keys go to the guest as they are (raw mode) and the window size follows. Without, Ctrl-C is
 * passed on as SIGINT.
 */
export async function attachStream(
  stream: ClientStream,
  streams: LocalStreams,
  hasTerminal: boolean,
): Promise<GuestExit> {
  const { stdin, stdout, stderr } = streams;
  const send = (type: 'stdin' | 'stdin-end', bytes?: Buffer): void => {
    if (!stream.send(type, bytes)) stdin.pause();
  };
  stream.onDrain(() => stdin.resume());
  stream.onFrame((frame) => {
    if (frame.type !== 'stdout' && frame.type !== 'stderr') return;
    const out = frame.type === 'stdout' ? stdout : stderr;
    if (out.write(frame.payload)) return;
    stream.pause();
    out.once('drain', () => stream.resume());
  });

  const onData = (chunk: Buffer): void => send('stdin', chunk);
  const onEnd = (): void => send('stdin-end');
  const onResize = (): void => {
    stream.send('resize', JSON.stringify({ columns: stdout.columns, rows: stdout.rows }));
  };
  const onBrokenPipe = (): void => stream.close();
  stdin.on('data', onData);
  stdin.on('end', onEnd);
  // Whoever read our output has gone: so may the program.
  stdout.on('error', onBrokenPipe);
  if (hasTerminal) {
    stdin.setRawMode(true);
    stdout.on('resize', onResize);
  }
  try {
    return await stream.ended;
  } finally {
    if (hasTerminal) stdin.setRawMode(false);
    stdin.off('data', onData);
    stdin.off('end', onEnd);
    stdout.off('resize', onResize);
    stdin.pause();
    // A pipe that nobody writes to must not keep this process alive.
    stdin.unref?.();
  }
}

/** A program's end as a shell's `$?`: its own code, or 128 and the number of the signal. */
export function exitCodeOf(exit: GuestExit, signals: Readonly<Record<string, number>>): number {
  if (exit.code !== undefined) return exit.code;
  if (exit.signal === 'INT') return interruptedExitCode;
  return 128 + (signals[`SIG${exit.signal}`] ?? 0);
}
