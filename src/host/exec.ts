import { spawn } from 'node:child_process';
import { abortError, BangerError, errnoOf, explainHostError } from '../errors.ts';
import { withMemoryLimit } from './memory-limit.ts';
import { giveUpAfter } from './patience.ts';

export interface ExecOptions {
  readonly cwd?: string;
  /** Replaces the environment; undefined inherits, but for the language: what programs say is read by us */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly input?: string | Buffer;
  readonly signal?: AbortSignal;
  /** Default 60 s */
  readonly timeoutMs?: number;
  /** Exit codes besides 0 that are answers, not failures */
  readonly okExitCodes?: readonly number[];
  /** What it may take by itself; see `withMemoryLimit` */
  readonly maxMemoryBytes?: number;
  /** Output beyond this is an error; default 64 MiB */
  readonly maxOutputBytes?: number;
}

export interface ExecOutput {
  readonly exitCode: number;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** Runs a program to completion. The only way engine code starts short-lived host programs; tests pass a fake. */
export type Exec = (argv: readonly [string, ...string[]], options?: ExecOptions) => Promise<ExecOutput>;

const defaultTimeoutMs = 60_000;
const defaultMaxOutputBytes = 64 * 1024 * 1024;
/** How much of a program's complaint goes into an error message. */
const stderrTailLength = 500;

/** Runs a program without a shell. Throws `host_unsupported` when it is not installed, `command_failed` when it fails. */
export const exec: Exec = (argv, options = {}) => {
  const [program] = argv;
  return new Promise((resolve, reject) => {
    if (options.signal?.aborted) return reject(abortError(options.signal));
    const [file, ...args] = withMemoryLimit(argv, options.maxMemoryBytes);
    const child = spawn(file, args, {
      cwd: options.cwd,
      env: options.env ?? { ...process.env, LC_ALL: 'C' },
      stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let bytes = 0;
    let failure: BangerError | undefined;

    const fail = (error: BangerError): void => {
      failure ??= error;
      child.kill('SIGKILL');
      // A grandchild that keeps them open must not keep us waiting.
      child.stdout?.destroy();
      child.stderr?.destroy();
    };
    const collect = (into: Buffer[]) => (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > (options.maxOutputBytes ?? defaultMaxOutputBytes)) {
        fail(new BangerError('command_failed', `"${program}" printed more than it should`));
        return;
      }
      into.push(chunk);
    };
    // There are no pipes when the descriptors for them were missing; 'error' is emitted then.
    child.stdout?.on('data', collect(stdout));
    child.stderr?.on('data', collect(stderr));

    const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
    const takeBack = giveUpAfter(timeoutMs, () =>
      fail(new BangerError('timeout', `"${argv.join(' ')}" did not finish within ${timeoutMs / 1000} s`)),
    );
    const onAbort = (): void => fail(abortError(options.signal!));
    options.signal?.addEventListener('abort', onAbort, { once: true });
    const cleanUp = (): void => {
      takeBack();
      options.signal?.removeEventListener('abort', onAbort);
    };

    child.on('error', (cause) => {
      cleanUp();
      reject(failure ?? spawnError(program, cause));
    });
    child.on('close', (code, signal) => {
      cleanUp();
      if (failure) return reject(failure);
      const exitCode = code ?? -1;
      const output = {
        exitCode,
        stdout: stdout.length === 1 ? stdout[0]! : Buffer.concat(stdout),
        stderr: Buffer.concat(stderr).toString('utf8'),
      };
      if (exitCode === 0 || options.okExitCodes?.includes(exitCode)) return resolve(output);
      const how = code === null ? `was ended by ${signal}` : `exited with ${code}`;
      const words = output.stderr.trim().slice(-stderrTailLength);
      reject(new BangerError('command_failed', `"${argv.join(' ')}" ${how}${words ? `: ${words}` : ''}`));
    });

    if (options.input !== undefined) {
      // A program that does not read all of its input is judged by its exit code, not by our EPIPE.
      child.stdin?.on('error', () => undefined);
      child.stdin?.end(options.input);
    }
  });
};

function spawnError(program: string, cause: unknown): BangerError {
  if (errnoOf(cause) === 'ENOENT') {
    return new BangerError('host_unsupported', `"${program}" is not installed or not in PATH`, {
      hint: 'See what is missing with: banger doctor',
      cause,
    });
  }
  const explained = explainHostError(cause);
  if (explained) return explained;
  return new BangerError(
    'command_failed',
    `"${program}" could not be started: ${errnoOf(cause) ?? String(cause)}`,
    { cause },
  );
}
