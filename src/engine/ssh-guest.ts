import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ClientChannel } from 'ssh2';
import { abortError, BangerError, errnoOf } from '../errors.ts';
import {
  datagramProtocol,
  guestCommand,
  oldestGuestProtocol,
  relayProtocol,
  secretsProtocol,
  type GuestWord,
} from '../host/guest-protocol.ts';
import { giveUpAfter } from '../host/patience.ts';
import type { Lease } from './connection-pool.ts';
import { leaveCommand, longestCommandBytes } from './long-command.ts';
import type { Guest, GuestExecOptions, GuestExit, GuestOutput, GuestProcess } from './guest.ts';

/** How long a guest may take to confirm that a channel is closed. */
const closeTimeoutMs = 2_000;

/** Collected output beyond this is an error. */
const maxOutputBytes = 64 * 1024 * 1024;

/** How a guest is reached. */
export interface SshGuestWays {
  /** The VM's, for hints */
  readonly name: string;
  /** Gives a connection for one program */
  readonly take: () => Promise<Lease>;
  /** The same with an SSH agent that its programs may use; the connection is nobody else's */
  readonly takeWithAgent: (agentSocket: string) => Promise<Lease>;
  /** What the guest's part speaks. Throws when that is nothing this build knows. */
  readonly protocol: () => Promise<number>;
}

/**
 * A guest over SSH. Commands are words of the protocol that `guest/session` understands; it runs the program
 * directly, so that exit codes and signals arrive as they are.
 */
export function sshGuest({ name, take, takeWithAgent, protocol: protocolOf }: SshGuestWays): Guest {
  const spawn =
    (word: GuestWord) =>
    async (argv: readonly string[], options: GuestExecOptions = {}) => {
      const protocol = await protocolOf();
      if (protocol < secretsProtocol && (options.secrets ?? options.agentSocket) !== undefined)
        throw tooOld(name, 'secrets and SSH agents');
      const asked = guestCommand(protocol, word, wordsOf(word, argv, options));
      const command =
        Buffer.byteLength(asked) <= longestCommandBytes
          ? asked
          : guestCommand(
              protocol,
              'banger-toolbox',
              await leaveCommand(collect('banger-toolbox'), asked, options.signal),
            );
      const lease = await (options.agentSocket === undefined ? take() : takeWithAgent(options.agentSocket));
      // A guest that hangs answers nothing: giving up on it is to hang up.
      const giveUp = (): void => lease.release(false);
      options.signal?.addEventListener('abort', giveUp, { once: true });
      try {
        return await lease.connection.exec(command, terminalOf(options), (channel) =>
          attach(lease, channel, { ...options, name }),
        );
      } catch (error) {
        lease.release(false);
        throw options.signal?.aborted ? abortError(options.signal) : withWayOut(error, name);
      } finally {
        options.signal?.removeEventListener('abort', giveUp);
      }
    };
  const collect =
    (word: GuestWord): Guest['run'] =>
    async (argv, options = {}) =>
      collectOutput(await spawn(word)(argv, options), options.input);

  return {
    spawn: spawn('banger-exec'),
    spawnToolbox: spawn('banger-toolbox'),
    run: collect('banger-exec'),
    runToolbox: collect('banger-toolbox'),
    connectSocket: async (path, options) => {
      if ((await protocolOf()) < relayProtocol) throw tooOld(name, 'a relay to Unix sockets');
      return spawn('banger-toolbox')(['sh', '-c', 'exec /run/banger/bin/relay "$1"', 'relay', path], options);
    },
    connectDatagrams: async ({ address, port }, options) => {
      if ((await protocolOf()) < datagramProtocol) throw tooOld(name, 'a relay to UDP ports');
      const script = 'exec /run/banger/bin/datagrams "$1" "$2"';
      return spawn('banger-toolbox')(['sh', '-c', script, 'datagrams', address, String(port)], options);
    },
    shell: (options) => spawn('banger-exec')([], options),
    powerOff: (signal) => powerOff(take, signal),
  };
}

function tooOld(name: string, lacks: string): BangerError {
  return new BangerError('invalid_state', `VM "${name}" was started by an older banger, without ${lacks}`, {
    hint: `Give it this one's guest part with: banger vm restart ${name}`,
  });
}

/** Tells people what they can do about a guest that does not answer. */
export function withWayOut(error: unknown, name: string): unknown {
  if (!(error instanceof BangerError) || error.code !== 'guest_unreachable' || error.hint) return error;
  return new BangerError(error.code, error.message, {
    hint: `What the guest says: banger vm logs ${name}; end it, by force if need be: banger vm stop ${name}`,
    cause: error,
  });
}

function wordsOf(word: GuestWord, argv: readonly string[], options: GuestExecOptions): readonly string[] {
  if (word === 'banger-toolbox') return argv;
  const words: string[] = [];
  // First: the guest looks for it before it reads the others.
  if (options.secrets) words.push('-S', options.secrets.id);
  for (const secret of options.secrets?.names ?? []) words.push('-s', secret);
  if (options.workingDirectory !== undefined) words.push('-d', options.workingDirectory);
  if (options.fallBackToHome) words.push('-f');
  for (const [name, value] of Object.entries(options.env ?? {})) words.push('-e', `${name}=${value}`);
  if (options.user !== undefined) words.push('-u', options.user);
  return [...words, '--', ...argv];
}

function terminalOf(options: GuestExecOptions): { term: string; cols: number; rows: number } | undefined {
  const terminal = options.terminal;
  return terminal && { term: terminal.term, cols: terminal.columns, rows: terminal.rows };
}

function attach(
  lease: Lease,
  channel: ClientChannel,
  { signal, hangsUp = false, name }: Pick<GuestExecOptions, 'signal' | 'hangsUp'> & { readonly name: string },
): GuestProcess {
  const exit = new Promise<GuestExit>((resolve, reject) => {
    let ended: GuestExit | undefined;
    channel.on('exit', (code: number | null, signalName?: string) => {
      ended = code === null ? { signal: (signalName ?? 'KILL').replace(/^SIG/, '') } : { code };
    });
    channel.once('close', () => {
      // Without word of its end, the program may still run, and its end would disturb whoever came next.
      lease.release(ended !== undefined);
      if (ended) return resolve(ended);
      reject(signal?.aborted ? abortError(signal) : withWayOut(lease.connection.lostError(), name));
    });
  });
  // Whoever is interested awaits it; others must not crash the engine by not doing so.
  exit.catch(() => undefined);
  const onAbort = (): void => {
    // The end of a channel alone is noticed by programs with a terminal, and by those that write.
    if (hangsUp) lease.connection.signal(channel, 'HUP');
    channel.close();
    // Closing wants the guest's answer, which a guest that hangs does not give.
    setTimeout(() => lease.release(false), closeTimeoutMs).unref();
  };
  signal?.addEventListener('abort', onAbort, { once: true });
  channel.once('close', () => signal?.removeEventListener('abort', onAbort));
  if (signal?.aborted) onAbort();
  return {
    stdio: channel,
    stderr: channel.stderr as Readable,
    exit,
    resize: (columns, rows) => channel.setWindow(rows, columns, 0, 0),
    sendSignal: (name) => lease.connection.signal(channel, name),
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
    let lost: unknown;
    const ended = await Promise.race([
      process.exit.catch((reason: unknown) => void (lost = reason)),
      sleep(closeTimeoutMs),
    ]);
    if (ended) return;
    process.close();
    // That the channel went is no news to anybody: it was cancelled, or the connection is lost.
    throw errnoOf(error) === 'ERR_STREAM_PREMATURE_CLOSE' ? (lost ?? error) : error;
  }
}

/** Asks a guest's part what it speaks. One that does not know the word is from before there were numbers. */
export async function askProtocol(lease: Lease): Promise<number> {
  let text = '';
  try {
    const ended = await lease.connection.exec('banger-protocol', undefined, (channel) => {
      channel.on('data', (chunk: Buffer) => {
        if (text.length < 4096) text += chunk.toString('latin1');
      });
      channel.stderr.resume();
      channel.end();
      return { closed: new Promise((resolve) => void channel.once('close', resolve)) };
    });
    await within(reachTimeoutMs, ended.closed, 'did not say which protocol it speaks');
    lease.release(true);
  } catch (error) {
    lease.release(false);
    throw error;
  }
  const said = /^banger-protocol (\d{1,6})\n/.exec(text)?.[1];
  return said === undefined ? oldestGuestProtocol : Number(said);
}

/** How long a guest may take to begin with it, and to write what it has not written yet. */
const reachTimeoutMs = 10_000;
const flushTimeoutMs = 30_000;

async function powerOff(take: () => Promise<Lease>, signal: AbortSignal): Promise<void> {
  const asked = take().then(({ connection }) =>
    connection.exec('banger-poweroff', undefined, (channel) => ({
      channel,
      flushed: whenFlushed(channel, signal),
    })),
  );
  const { channel, flushed } = await within(reachTimeoutMs, asked, 'did not answer');
  await within(flushTimeoutMs, flushed, 'did not flush its disks').catch((error: unknown) => {
    channel.close();
    throw error;
  });
}

function whenFlushed(channel: ClientChannel, signal: AbortSignal): Promise<void> {
  const flushed = new Promise<void>((resolve, reject) => {
    let text = '';
    channel.on('data', (chunk: Buffer) => {
      // A guest that says anything else, at length, is not believed for ever.
      if (text.length < 4096) text += chunk.toString('latin1');
      if (text.includes('flushed')) resolve();
    });
    channel.once('close', () =>
      reject(new BangerError('guest_unreachable', 'The guest hung up before its disks were flushed')),
    );
    signal.addEventListener('abort', () => reject(abortError(signal)), { once: true });
  });
  // Whoever asked may have given up by then.
  flushed.catch(() => undefined);
  return flushed;
}

async function within<T>(timeoutMs: number, work: Promise<T>, what: string): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const error = new BangerError('timeout', `The guest ${what} within ${timeoutMs / 1000} s`);
  const takeBack = giveUpAfter(timeoutMs, () => reject(error));
  try {
    return await Promise.race([work, promise]);
  } finally {
    takeBack();
  }
}
