import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import lockfile from 'proper-lockfile';
import { BangerError, errnoOf, type ErrorCode } from '../../errors.ts';
import { identifyProcess, isAlive, spawnDetached } from '../../host/process.ts';
import { allocatorEnv } from './allocator-env.ts';
import type { RpcClient } from './client.ts';
import { connectIfRunning, isOurs, type ConnectOptions } from './connect.ts';

/** From the first look to an engine that answers. It includes making sense of what an earlier one left. */
const startTimeoutMs = 30_000;
const pollMs = 15;

/** A connection to an engine of our build, started by us or by somebody else at the same time. */
export async function startEngine(options: ConnectOptions): Promise<RpcClient> {
  const deadline = performance.now() + startTimeoutMs;
  while (performance.now() < deadline) {
    const client = (await connectIfRunning(options)) ?? (await spawnOnce(options));
    if (client && (await isOurs(client, options.build))) return client;
    await sleep(pollMs);
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

/** Undefined while somebody else, who lives, is starting an engine. */
async function takeStartLock(path: string): Promise<(() => Promise<void>) | undefined> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const holderFile = `${path}.holder`;
  try {
    const release = await lockfile.lock(path, {
      realpath: false,
      stale: 10_000,
      onCompromised: () => undefined,
    });
    await writeFile(holderFile, JSON.stringify(identifyProcess(process.pid)), { mode: 0o600 });
    return async () => {
      await rm(holderFile, { force: true });
      await release().catch(() => undefined);
    };
  } catch (error) {
    if (errnoOf(error) !== 'ELOCKED') throw error;
  }
  // A holder that was killed must not cost anybody the lock's ten seconds. Should two of us break it at once, two
  // engines start, and the database lock lets one of them live.
  const holder = await readFile(holderFile, 'utf8').then(
    (text) => JSON.parse(text || 'null') as Parameters<typeof isAlive>[0] | null,
    () => null,
  );
  const isForgotten = holder === null && (await ageMs(`${path}.lock`)) > forgottenAfterMs;
  if (isForgotten || (holder && !isAlive(holder))) {
    await rm(holderFile, { force: true });
    await rm(`${path}.lock`, { recursive: true, force: true });
  }
  return undefined;
}

/** A holder writes down who it is at once: one that has not after this long died in between. */
const forgottenAfterMs = 1_000;

async function ageMs(path: string): Promise<number> {
  return stat(path).then(
    (found) => Date.now() - found.mtimeMs,
    () => 0,
  );
}

async function spawnEngine(options: ConnectOptions): Promise<RpcClient | undefined> {
  const child = await spawnDetached(options.engineArgv, {
    logFile: options.engineLog,
    env: { ...options.engineEnv, ...allocatorEnv },
  });
  let exit: string | undefined;
  child.once('exit', (code, signal) => {
    exit = signal ?? String(code);
  });
  child.unref();
  const deadline = performance.now() + startTimeoutMs;
  while (performance.now() < deadline) {
    const client = await connectIfRunning(options);
    if (client) return client;
    if (exit === '0') return undefined;
    if (exit !== undefined) throw await diedAtStart(options, exit);
    await sleep(pollMs);
  }
  return undefined;
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
