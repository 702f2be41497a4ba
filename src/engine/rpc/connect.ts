import { lstatSync } from 'node:fs';
import { dirname } from 'node:path';
import { BangerError, errnoOf } from '../../errors.ts';
import { giveUpAfter } from '../../host/patience.ts';
import { EngineGone, RpcClient, type BuildIdentity } from './client.ts';
import type { HelloResult } from './messages.ts';

export interface ConnectOptions {
  readonly socketPath: string;
  /** Held while starting an engine, so that fifty clients start one */
  readonly startLock: string;
  readonly engineLog: string;
  /** Where the engine says where it is; see engine-note.ts */
  readonly engineNote: string;
  readonly build: BuildIdentity;
  /** Program and arguments that run the engine */
  readonly engineArgv: readonly [string, ...string[]];
  readonly engineEnv: Readonly<Record<string, string | undefined>>;
}

/** A connection to the engine; undefined when none is running. */
export async function connectIfRunning(options: ConnectOptions): Promise<RpcClient | undefined> {
  refuseForeignDirectory(dirname(options.socketPath));
  try {
    return await RpcClient.dial(options.socketPath, options.build);
  } catch (error) {
    if (noListener.has(errnoOf(error) ?? '')) return undefined;
    throw error;
  }
}

/** There is no socket, nobody has it open, or whoever had it died before taking our connection. */
const noListener = new Set(['ENOENT', 'ECONNREFUSED', 'ECONNRESET']);

/**
 * Throws when the socket's directory is not ours alone: it may be at a predictable place under a shared one, and
 * whoever put it there would hear what we send and answer in the engine's name.
 */
function refuseForeignDirectory(path: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  const isPrivate = found?.isDirectory() && found.uid === process.getuid!() && (found.mode & 0o077) === 0;
  if (!found || isPrivate) return;
  throw new BangerError('invalid_state', `"${path}" is not a directory of yours alone`, {
    hint: 'Have it removed, or choose another place: BANGER_HOME=DIR banger …',
  });
}

/**
 * A connection to an engine of our build, which is started when there is none.
 *
 * An idle engine of another build leaves when it hears from us; a busy one is reported (`busy`).
 */
export async function connectOrStart(options: ConnectOptions): Promise<RpcClient> {
  const client = await connectIfRunning(options);
  if (client && (await isOurs(client, options.build))) return client;
  // Lock, files and processes: most commands find an engine and need none of them.
  const { startEngine } = await import('./start-engine.ts');
  return startEngine(options);
}

/** True when an engine of our build is there to stay; otherwise the connection has been closed. */
export async function isOurs(client: RpcClient, build: BuildIdentity): Promise<boolean> {
  const hello = await greet(client);
  if (hello?.build === build.buildId) return true;
  client.close();
  if (!hello) return false;
  throw new BangerError('busy', `The engine is of another version (${hello.version}) and busy`, {
    hint: 'Wait until its work is done, then try again; see it with: banger engine status',
  });
}

/** An engine greets within milliseconds, unless it hangs or is suspended. */
const helloTimeoutMs = 15_000;

/** What an engine that is there to stay says of itself; undefined when it is leaving. */
export async function greet(client: RpcClient): Promise<HelloResult | undefined> {
  const late = Promise.withResolvers<never>();
  const error = new BangerError('timeout', 'The engine does not answer, though its socket is open', {
    hint: 'It may be suspended or very busy. Find its process with: pgrep -a banger-engine',
  });
  const takeBack = giveUpAfter(helloTimeoutMs, () => late.reject(error));
  try {
    const hello = await Promise.race([client.hello, late.promise]);
    return hello.leaving ? undefined : hello;
  } catch (error) {
    client.close();
    // It was leaving when we dialled: the next round starts another.
    if (error instanceof EngineGone) return undefined;
    throw error;
  } finally {
    takeBack();
  }
}
