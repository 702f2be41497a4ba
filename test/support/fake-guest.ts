import { spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { abortError } from '../../src/errors.ts';
import { joinedStreams } from '../../src/host/child-stream.ts';
import type { Guest, GuestExecOptions, GuestExit, GuestProcess } from '../../src/engine/guest.ts';

export interface FakeGuest {
  readonly guest: Guest;
  /** What was run in it, in order; toolbox programs are marked */
  readonly commands: (readonly string[])[];
}

export interface FakeGuestOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Comes before the toolbox's programs, as in `['busybox']`; without it the host's programs are used */
  readonly toolbox?: readonly string[];
  /** A directory with our own programs, in the place of the guest's /run/banger/bin; what it has in `lib` is in that of /run/banger */
  readonly programs?: string;
  /** In the place of the guest's /var/lib/banger */
  readonly state?: string;
  /** Called before each program; may change files, or throw */
  readonly onRun?: (argv: readonly string[]) => void;
}

/** A guest whose programs run on this host: its paths are real ones, so tests give it a temp directory. */
export function createFakeGuest(options: FakeGuestOptions = {}): FakeGuest {
  const commands: (readonly string[])[] = [];
  const start = (argv: readonly string[], run: GuestExecOptions): GuestProcess => {
    options.onRun?.(argv);
    commands.push(argv);
    const given = { PATH: process.env['PATH'], HOME: '/nonexistent', ...options.env, ...run.env };
    const env = Object.fromEntries(
      Object.entries(given).map(([name, value]) => [name, value && ours(value)]),
    );
    const { workingDirectory } = run;
    return startProcess(argv.map(inPlace), {
      ...run,
      workingDirectory: workingDirectory && inPlace(workingDirectory),
      env: env as Record<string, string>,
    });
  };
  const { programs, state, toolbox: prefix = [] } = options;
  const inPlace = (word: string): string =>
    state === undefined ? word : word.replaceAll('/var/lib/banger', state);
  const ours = (word: string): string =>
    programs === undefined
      ? word
      : word.replaceAll('/run/banger/bin/', `${programs}/`).replaceAll('/run/banger/lib', `${programs}/lib`);
  const toolbox = (argv: readonly string[]) => [...prefix, ...argv.map(ours)];
  const guest: Guest = {
    spawn: async (argv, run = {}) => start(argv, run),
    spawnToolbox: async (argv, run = {}) => start(toolbox(argv), run),
    run: async (argv, run = {}) => collect(start(argv, run), run),
    runToolbox: async (argv, run = {}) => collect(start(toolbox(argv), run), run),
    connectSocket: () => Promise.reject(new Error('The fake guest has no sockets')),
    connectDatagrams: () => Promise.reject(new Error('The fake guest has no sockets')),
    shell: () => Promise.reject(new Error('The fake guest has no login shell')),
    powerOff: async () => undefined,
  };
  return { guest, commands };
}

function startProcess(argv: readonly string[], options: GuestExecOptions): GuestProcess {
  const child = spawn(argv[0]!, argv.slice(1), { cwd: options.workingDirectory ?? '/', env: options.env });
  const close = (): void => void child.kill('SIGHUP');
  options.signal?.addEventListener('abort', close, { once: true });
  const exit = new Promise<GuestExit>((resolve, reject) => {
    child.once('error', () => resolve({ code: 127 }));
    child.once('close', (code, signal) => {
      options.signal?.removeEventListener('abort', close);
      if (options.signal?.aborted) return reject(abortError(options.signal));
      resolve(code === null ? { signal: signal!.replace('SIG', '') } : { code });
    });
  });
  exit.catch(() => undefined);
  child.stdin.on('error', () => undefined);
  return {
    stdio: joinedStreams(child.stdout, child.stdin),
    stderr: child.stderr,
    exit,
    resize: () => undefined,
    sendSignal: (name) => void child.kill(`SIG${name}` as NodeJS.Signals),
    close,
  };
}

async function collect(
  child: GuestProcess,
  { input }: { readonly input?: Buffer | Readable },
): ReturnType<Guest['run']> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdio.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stdio.on('error', () => undefined);
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  if (input === undefined || Buffer.isBuffer(input)) child.stdio.end(input);
  // A failing source ends the program, as a closed connection does; its exit says the rest.
  else await pipeline(input, child.stdio).catch(() => child.close());
  const exit = await child.exit;
  return { exit, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString('utf8') };
}
