import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, existsSync, fstatSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError, errnoOf, explainHostError } from '../errors.ts';
import { Deadline } from './patience.ts';

/**
 * Which process, beyond doubt: a pid alone is reused, a pid with its start time is not within one boot.
 */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks after boot, field 22 of /proc/PID/stat (proc(5)) */
  readonly startTime: string;
  /** /proc/sys/kernel/random/boot_id of the host */
  readonly bootId: string;
}

/** The host's boot id: changes with every boot. */
export function hostBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/** The identity of a live process; undefined when there is none, or only its zombie. */
export function identifyProcess(pid: number): ProcessIdentity | undefined {
  const stat = readProc(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  // The name in parentheses may hold spaces and parentheses of its own: fields count from the last one.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state] = fields;
  if (state === 'Z' || state === 'X') return undefined;
  const startTime = fields[19];
  return startTime === undefined ? undefined : { pid, startTime, bootId: hostBootId() };
}

/** True while exactly this process lives. */
export function isAlive(identity: ProcessIdentity): boolean {
  const now = identifyProcess(identity.pid);
  return now !== undefined && now.startTime === identity.startTime && now.bootId === identity.bootId;
}

/** Sends a signal to exactly this process. One that is gone counts as signalled: false says so. */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): boolean {
  if (!isAlive(identity)) return false;
  try {
    process.kill(identity.pid, signal);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ESRCH') return false;
    throw error;
  }
}

const exitPollMs = 20;

/** Waits until a process is gone; false when it still lives after `timeoutMs`, or when the signal fires. */
export async function waitForExit(
  identity: ProcessIdentity,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<boolean> {
  const deadline = new Deadline(timeoutMs);
  while (isAlive(identity)) {
    if (deadline.isOver() || signal?.aborted) return false;
    await sleep(exitPollMs);
  }
  return true;
}

const reapTimeoutMs = 2_000;

/**
 * Waits until a process that has ended is no zombie any more, though not for long: by then whoever started it, we
 * ourselves perhaps, has been told how it ended.
 */
export async function waitUntilReaped({ pid }: Pick<ProcessIdentity, 'pid'>): Promise<void> {
  const deadline = new Deadline(reapTimeoutMs);
  while (existsSync(`/proc/${pid}`) && !deadline.isOver()) await sleep(exitPollMs);
}

const killTimeoutMs = 10_000;

/** Ends a process with SIGKILL and waits for it. Throws `timeout` when the kernel does not let it go. */
export async function killProcess(identity: ProcessIdentity): Promise<void> {
  signalProcess(identity, 'SIGKILL');
  if (await waitForExit(identity, killTimeoutMs)) return;
  throw new BangerError('timeout', `Process ${identity.pid} does not end, even by SIGKILL`, {
    hint: `It may be stuck in the kernel; look at: cat /proc/${identity.pid}/stack`,
  });
}

/** Pids of processes whose command line holds these words one after the other. */
export function findProcessesByArguments(words: readonly string[]): number[] {
  const wanted = `\0${words.join('\0')}\0`;
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && readProc(`/proc/${entry}/cmdline`)?.includes(wanted))
    .map(Number);
}

/** The words a process was started with; undefined when it is gone. */
export function commandLine(pid: number): string[] | undefined {
  return readProc(`/proc/${pid}/cmdline`)?.split('\0').slice(0, -1);
}

/**
 * Starts a long-lived program in a session of its own, so that it outlives us. What it says goes to the end of
 * `logFile`; its standard output to that of `outputFile`, if there is one.
 *
 * Resolves once the program was executed; throws `host_unsupported` when it is not installed. With `pulse` it has a
 * descriptor 3 whose other end closes when it ends: a new one, or the other end of somebody's. `input`: its standard
 * input is a new one, for a program that keeps no other. `input` is what its standard input is: nothing unless given.
 */
export async function spawnDetached(
  argv: readonly [string, ...string[]],
  options: {
    readonly logFile: string;
    readonly outputFile?: string;
    readonly env?: NodeJS.ProcessEnv;
    readonly pulse?: 'new' | 'input' | Socket;
    readonly input?: Socket;
    /** Where it begins; `/` unless given */
    readonly directory?: string;
  },
): Promise<ChildProcess> {
  const [program, ...args] = argv;
  const log = openSync(options.logFile, 'a', 0o600);
  const output = options.outputFile === undefined ? log : openSync(options.outputFile, 'a', 0o600);
  try {
    const child = spawn(program, args, {
      cwd: options.directory ?? '/',
      detached: true,
      env: options.env,
      stdio: [
        options.pulse === 'input' ? 'pipe' : (options.input ?? 'ignore'),
        output,
        log,
        ...pulseOf(options.pulse),
      ],
    });
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', reject);
    });
    return child;
  } catch (cause) {
    const explained = explainHostError(cause);
    if (explained) throw explained;
    const missing = errnoOf(cause) === 'ENOENT';
    throw new BangerError(
      missing ? 'host_unsupported' : 'command_failed',
      missing
        ? `"${program}" is not installed or not in PATH`
        : `"${program}" could not be started: ${String(cause)}`,
      { hint: 'See what is missing with: banger doctor', cause },
    );
  } finally {
    closeSync(log);
    if (output !== log) closeSync(output);
  }
}

function pulseOf(pulse: 'new' | 'input' | Socket | undefined): ('pipe' | Socket)[] {
  if (pulse === undefined || pulse === 'input') return [];
  return [pulse === 'new' ? 'pipe' : pulse];
}

/**
 * Closes descriptors that whoever started us left open. A background process that keeps the far end of
 * somebody's pipe makes them wait for an end of file that never comes.
 */
export function closeInheritedDescriptors(): void {
  for (const entry of readdirSync('/proc/self/fd')) {
    const fd = Number(entry);
    if (fd <= 2) continue;
    try {
      const flags = /flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '0';
      const isCloseOnExec = (Number.parseInt(flags, 8) & 0o2000000) !== 0;
      if (isCloseOnExec || readlinkSync(`/proc/self/fd/${fd}`).startsWith('anon_inode:')) continue;
      fstatSync(fd);
      closeSync(fd);
    } catch {
      // The descriptor of the directory listing itself is gone by now; so may be others.
    }
  }
}

/** A file of /proc, or undefined when its process is gone or not ours to read. */
function readProc(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ESRCH' || errno === 'EACCES' || errno === 'EPERM') return undefined;
    throw error;
  }
}
