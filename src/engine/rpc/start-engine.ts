import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError, type ErrorCode } from '../../errors.ts';
import { Deadline } from '../../host/patience.ts';
import { spawnDetached } from '../../host/process.ts';
import { allocatorEnv } from './allocator-env.ts';
import type { RpcClient } from './client.ts';
import { connectIfRunning, isOurs, type ConnectOptions } from './connect.ts';
import { connectElsewhere } from './elsewhere.ts';
import { takeStartLock } from './start-lock.ts';

/**
 * From the first look to an engine that answers. It includes waiting for an earlier one, which may have much to undo
 * (see state-directory.ts), and making sense of what that left.
 */
export const startTimeoutMs = 60_000;
const pollMs = 15;
const longestPollMs = 240;

/** A connection to an engine of our build, started by us or by somebody else at the same time. */
export async function startEngine(options: ConnectOptions): Promise<RpcClient> {
  const deadline = new Deadline(startTimeoutMs);
  // Fifty who look without a pause would leave nothing of the processor to the engine they wait for.
  for (let waitMs = pollMs; !deadline.isOver(); waitMs = Math.min(2 * waitMs, longestPollMs)) {
    const client =
      (await connectIfRunning(options)) ?? (await connectElsewhere(options)) ?? (await spawnOnce(options));
    if (client && (await isOurs(client, options.build))) return client;
    await sleep(waitMs);
  }
  throw new BangerError('timeout', `The engine did not answer within ${startTimeoutMs / 1000} s`, {
    hint: `Its log may say why: tail ${options.engineLog}`,
  });
}

/** Spawns an engine, or finds somebody doing so. Undefined: look again. */
async function spawnOnce(options: ConnectOptions): Promise<RpcClient | undefined> {
  const release = await takeStartLock(options.startLock);
  if (!release) return undefined;
  try {
    const there = await connectIfRunning(options);
    if (there) return there;
    return await spawnEngine(options);
  } finally {
    await release();
  }
}

async function spawnEngine(options: ConnectOptions): Promise<RpcClient | undefined> {
  const child = await spawnDetached(withoutCoreDumps(options.engineArgv), {
    logFile: options.engineLog,
    env: { ...options.engineEnv, ...allocatorEnv },
  });
  let exit: string | undefined;
  child.once('exit', (code, signal) => {
    exit = signal ?? String(code);
  });
  child.unref();
  const deadline = new Deadline(startTimeoutMs);
  while (!deadline.isOver()) {
    const client = await connectIfRunning(options);
    if (client) return client;
    if (exit === '0') return undefined;
    if (exit !== undefined) throw await diedAtStart(options, exit);
    await sleep(pollMs);
  }
  return undefined;
}

/**
 * Keys and registry passwords are in the engine's memory, and in that of programs it starts: they must not end up in a
 * file when one of them crashes. Node cannot set limits of its own process.
 */
function withoutCoreDumps(argv: ConnectOptions['engineArgv']): [string, ...string[]] {
  return ['/bin/sh', '-c', 'ulimit -c 0; exec "$@"', 'sh', ...argv];
}

/** The last thing an engine says when it cannot start, as a line of its log. See bin/engine.ts. */
interface LastWords {
  readonly level: 'fatal';
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint?: string;
}

async function diedAtStart(options: ConnectOptions, exit: string): Promise<BangerError> {
  const log = await readFile(options.engineLog, 'utf8').catch(() => '');
  const words = lastWords(log.trim().split('\n').at(-1) ?? '');
  if (words) return new BangerError(words.code, words.message, { hint: words.hint });
  return new BangerError('internal', `The engine ended at its start (${exit})`, {
    hint: `Its log may say why: tail ${options.engineLog}`,
  });
}

function lastWords(line: string): LastWords | undefined {
  try {
    const words = JSON.parse(line) as LastWords;
    return words.level === 'fatal' ? words : undefined;
  } catch {
    return undefined;
  }
}
