import { BangerError, errnoOf } from '../../errors.ts';
import { EngineGone, RpcClient, type BuildIdentity } from './client.ts';

export interface ConnectOptions {
  readonly socketPath: string;
  /** Held while starting an engine, so that fifty clients start one */
  readonly startLock: string;
  readonly engineLog: string;
  readonly build: BuildIdentity;
  /** Program and arguments that run the engine */
  readonly engineArgv: readonly [string, ...string[]];
  readonly engineEnv: Readonly<Record<string, string | undefined>>;
}

/** A connection to the engine; undefined when none is running. */
export async function connectIfRunning(options: ConnectOptions): Promise<RpcClient | undefined> {
  try {
    return await RpcClient.dial(options.socketPath, options.build);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ECONNREFUSED') return undefined;
    throw error;
  }
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
  try {
    const hello = await withinTime(client.hello);
    if (hello.build === build.buildId && !hello.leaving) return true;
    client.close();
    if (hello.leaving) return false;
    throw new BangerError('busy', `The engine is of another version (${hello.version}) and busy`, {
      hint: 'Wait until its work is done, then try again; see it with: banger engine status',
    });
  } catch (error) {
    // It was leaving when we dialled: the next round starts another.
    if (error instanceof EngineGone) return false;
    throw error;
  }
}

/** An engine greets within milliseconds, unless it hangs or is suspended. */
const helloTimeoutMs = 15_000;

async function withinTime<T>(answer: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const error = new BangerError('timeout', 'The engine does not answer, though its socket is open', {
    hint: 'It may be suspended or very busy. Find its process with: pgrep -a banger-engine',
  });
  const timer = setTimeout(() => late.reject(error), helloTimeoutMs);
  try {
    return await Promise.race([answer, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
