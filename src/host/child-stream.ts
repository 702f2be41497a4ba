import { spawn } from 'node:child_process';
import { Duplex, type Readable, type Writable } from 'node:stream';
import { abortError, BangerError, errnoOf } from '../errors.ts';
import { withMemoryLimit } from './memory-limit.ts';

/** A program of the host that talks over streams. */
export interface ChildStream {
  /** Its standard input and output */
  readonly stdio: Duplex;
  readonly stderr: Readable;
  /** A socket that is its descriptor 3, when asked for */
  readonly extra?: Duplex;
  /** Settles when it has ended and its output was delivered; rejects when it cannot be started, or is aborted */
  readonly exit: Promise<{ readonly code?: number; readonly signal?: string }>;
  close(): void;
}

export interface ChildStreamOptions {
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  /** What it may take by itself; see `withMemoryLimit` */
  readonly maxMemoryBytes?: number;
  /** Give it a socket as descriptor 3 */
  readonly hasExtra?: boolean;
}

/** Starts a program without a shell, for what is longer than `exec` should hold. Ends with `signal`. */
export function startChildStream(
  argv: readonly [string, ...string[]],
  { cwd, env, signal, maxMemoryBytes, hasExtra = false }: ChildStreamOptions,
): ChildStream {
  const [program] = argv;
  const [file, ...args] = withMemoryLimit(argv, maxMemoryBytes);
  const child = spawn(file, args, {
    cwd,
    env,
    stdio: ['pipe', 'pipe', 'pipe', ...(hasExtra ? (['pipe'] as const) : [])],
  });
  const close = (): void => void child.kill('SIGTERM');
  signal.addEventListener('abort', close, { once: true });
  if (signal.aborted) close();
  const exit = new Promise<{ code?: number; signal?: string }>((resolve, reject) => {
    child.once('error', (cause) => {
      const isMissing = errnoOf(cause) === 'ENOENT';
      const why = isMissing ? 'is not installed or not in PATH' : `could not be started: ${errnoOf(cause)}`;
      reject(new BangerError('host_unsupported', `"${program}" ${why}`, { cause }));
    });
    child.once('close', (code, signalName) => {
      signal.removeEventListener('abort', close);
      if (signal.aborted) return reject(abortError(signal));
      resolve(code === null ? { signal: (signalName ?? 'SIGKILL').replace('SIG', '') } : { code });
    });
  });
  // Whoever is interested awaits it.
  exit.catch(() => undefined);
  // A program that ends before it has read everything is judged by its exit code.
  child.stdin!.on('error', () => undefined);
  const extra = hasExtra ? (child.stdio[3] as Duplex) : undefined;
  extra?.on('error', () => undefined);
  // Its end is not told before all of its streams are closed, and this one is held by whoever is at the other side.
  child.once('exit', () => extra?.destroy());
  return {
    stdio: joinedStreams(child.stdout!, child.stdin!),
    stderr: child.stderr!,
    extra,
    exit,
    close,
  };
}

/** A program's output and input as one stream. A program that ends without reading all of its input is no error of the stream's. */
export function joinedStreams(output: Readable, input: Writable): Duplex {
  const stream = new Duplex({
    read: () => void output.resume(),
    write: (chunk: Buffer, _, done) => {
      if (!input.writable) return done();
      input.write(chunk, () => done());
    },
    final: (done) => {
      input.end();
      done();
    },
  });
  output.on('data', (chunk: Buffer) => {
    if (!stream.push(chunk)) output.pause();
  });
  // One that never started has no end, only a close.
  for (const event of ['end', 'close']) output.once(event, () => stream.push(null));
  output.pause();
  stream.on('error', () => undefined);
  return stream;
}
