import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ClientChannel } from 'ssh2';
import { abortError, BangerError } from '../errors.ts';
import { shellQuote } from '../host/shell-quote.ts';
import type { SshConnection } from '../host/ssh.ts';
import type { Guest, GuestExecOptions, GuestExit, GuestOutput, GuestProcess } from './guest.ts';

/** Collected output beyond this is an error. */
const maxOutputBytes = 64 * 1024 * 1024;

/**
 * A guest over SSH. Commands are words of the protocol that `guest/enter` understands; it runs the program
 * directly, so that exit codes and signals arrive as they are.
 */
export function sshGuest(connection: SshConnection): Guest {
  const spawn =
    (verb: string) =>
    async (argv: readonly string[], options: GuestExecOptions = {}) =>
      attach(await connection.exec(commandLine(verb, argv, options), terminalOf(options)), options.signal);
  const collect =
    (verb: string): Guest['run'] =>
    async (argv, options = {}) =>
      collectOutput(await spawn(verb)(argv, options), options.input);

  return {
    spawn: spawn('banger-exec'),
    spawnToolbox: spawn('banger-toolbox'),
    run: collect('banger-exec'),
    runToolbox: collect('banger-toolbox'),
    shell: (options) => spawn('banger-exec')([], options),
    powerOff: (signal) => powerOff(connection, signal),
  };
}

function commandLine(verb: string, argv: readonly string[], options: GuestExecOptions): string {
  if (verb === 'banger-toolbox') return shellQuote([verb, ...argv]);
  const words = [verb];
  if (options.workingDirectory !== undefined) words.push('-d', options.workingDirectory);
  if (options.fallBackToHome) words.push('-f');
  for (const [name, value] of Object.entries(options.env ?? {})) words.push('-e', `${name}=${value}`);
  if (options.user !== undefined) words.push('-u', options.user);
  return shellQuote([...words, '--', ...argv]);
}

function terminalOf(options: GuestExecOptions): { term: string; cols: number; rows: number } | undefined {
  const terminal = options.terminal;
  return terminal && { term: terminal.term, cols: terminal.columns, rows: terminal.rows };
}

function attach(channel: ClientChannel, signal: AbortSignal | undefined): GuestProcess {
  const exit = new Promise<GuestExit>((resolve, reject) => {
    let ended: GuestExit | undefined;
    channel.on('exit', (code: number | null, signalName?: string) => {
      ended = code === null ? { signal: (signalName ?? 'KILL').replace(/^SIG/, '') } : { code };
    });
    channel.once('close', () => {
      if (ended) return resolve(ended);
      reject(
        signal?.aborted
          ? abortError(signal)
          : new BangerError('guest_unreachable', 'The connection to the guest was lost'),
      );
    });
  });
  // Whoever is interested awaits it; others must not crash the engine by not doing so.
  exit.catch(() => undefined);
  const onAbort = (): void => channel.close();
  signal?.addEventListener('abort', onAbort, { once: true });
  channel.once('close', () => signal?.removeEventListener('abort', onAbort));
  if (signal?.aborted) channel.close();
  return {
    stdio: channel,
    stderr: channel.stderr as Readable,
    exit,
    resize: (columns, rows) => channel.setWindow(rows, columns, 0, 0),
    sendSignal: (name) => channel.signal(name),
    close: () => channel.close(),
  };
}

async function collectOutput(
  process: GuestProcess,
  input: Buffer | Readable | undefined,
): Promise<GuestOutput> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  let bytes = 0;
  let tooMuch = false;
  const into = (list: Buffer[]) => (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= maxOutputBytes) return void list.push(chunk);
    tooMuch = true;
    process.close();
  };
  process.stdio.on('data', into(stdout));
  process.stderr.on('data', into(stderr));
  await feed(process, input);
  const exit = await process.exit.catch((error: unknown) => {
    if (tooMuch)
      throw new BangerError(
        'command_failed',
        `A program in the guest printed more than ${maxOutputBytes} bytes`,
      );
    throw error;
  });
  return { exit, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString('utf8') };
}

async function feed(process: GuestProcess, input: Buffer | Readable | undefined): Promise<void> {
  if (input === undefined || Buffer.isBuffer(input)) {
    process.stdio.end(input);
    return;
  }
  try {
    await pipeline(input, process.stdio, { end: true });
  } catch (error) {
    // A program that ends before it has read everything closes its end: its exit code says what happened.
    const ended = await Promise.race([process.exit.catch(() => undefined), Promise.resolve(undefined)]);
    if (ended === undefined && !process.stdio.destroyed) {
      process.close();
      throw error;
    }
  }
}

/** How long a guest may take to write what it has not written yet. */
const flushTimeoutMs = 30_000;

async function powerOff(connection: SshConnection, signal: AbortSignal): Promise<void> {
  const bounded = AbortSignal.any([signal, AbortSignal.timeout(flushTimeoutMs)]);
  const channel = await connection.exec('banger-poweroff');
  await new Promise<void>((resolve, reject) => {
    let text = '';
    const fail = (): void => {
      channel.close();
      reject(new BangerError('timeout', 'The guest did not flush its disks in time'));
    };
    bounded.addEventListener('abort', fail, { once: true });
    channel.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      if (text.length < 4096 && text.includes('flushed')) resolve();
    });
    channel.once('close', () => {
      bounded.removeEventListener('abort', fail);
      if (text.includes('flushed')) resolve();
      else
        reject(
          new BangerError(
            'guest_unreachable',
            'The guest closed the connection before it had flushed its disks',
          ),
        );
    });
  });
}
