import { AsyncLocalStorage } from 'node:async_hooks';
import { appendFileSync, readFileSync } from 'node:fs';
import { abortError, BangerError, errnoOf } from '../errors.ts';
import type { Operation } from './operations.ts';

/**
 * Defined by the build of what is released, where everything behind it is left out: no environment switches
 * failpoints on there. Written out at each place, since a constant would not make the build drop the rest.
 */
declare const isRelease: true | undefined;

/**
 * What the engine does at a point: die as by `kill -9`, fail as a program of the host, a full disk or a closed
 * directory would make it fail, give up waiting, or wait until it is cancelled.
 */
export const failures = ['kill', 'error', 'enospc', 'eacces', 'timeout', 'hang'] as const;
export type Failure = (typeof failures)[number];

/** Told of every point that is reached, as `KIND/NAME`; a name reached again gets `#2` and so on. */
export type Failpoints = (point: string) => Failure | undefined;

interface Scope {
  readonly failpoints: Failpoints;
  readonly operation: Operation;
  readonly seen: Map<string, number>;
  last?: string;
}

const scope = new AsyncLocalStorage<Scope>();

/** Runs an operation with failpoints, if there are any, named after its kind. */
export function withFailpoints<T>(
  failpoints: Failpoints | undefined,
  operation: Operation,
  task: () => Promise<T>,
): Promise<T> {
  if (typeof isRelease !== 'undefined' || !failpoints) return task();
  return scope.run({ failpoints, operation, seen: new Map() }, task);
}

/**
 * A point at which tests make an operation fail, between two things that outlive the engine. Steps and stages are
 * points by themselves: `NAME:before`, `NAME:after` and, when it is taken back, `NAME:undo`.
 */
export async function failpoint(name: string): Promise<void> {
  if (typeof isRelease !== 'undefined') return;
  const current = scope.getStore();
  const failure = current && reach(current, name);
  if (failure === 'hang') await untilCancelled(current!.operation.signal);
  else if (failure) fail(failure, name);
}

/** As `failpoint`, where nothing can wait: one that is to hang goes on. */
export function failpointNow(name: string): void {
  if (typeof isRelease !== 'undefined') return;
  const current = scope.getStore();
  const failure = current && reach(current, name);
  if (failure && failure !== 'hang') fail(failure, name);
}

/** A stage that begins as a step has been reached once, not twice. */
function reach(current: Scope, name: string): Failure | undefined {
  if (current.last === name) return undefined;
  current.last = name;
  const count = (current.seen.get(name) ?? 0) + 1;
  current.seen.set(name, count);
  return current.failpoints(`${current.operation.kind}/${name}${count > 1 ? `#${count}` : ''}`);
}

function fail(failure: Exclude<Failure, 'hang'>, name: string): void {
  switch (failure) {
    case 'kill':
      process.kill(process.pid, 'SIGKILL');
      return;
    case 'error':
      throw new BangerError('command_failed', `"failpoint ${name}" exited with 1`);
    case 'enospc':
      throw errno('ENOSPC', 'no space left on device', name);
    case 'eacces':
      throw errno('EACCES', 'permission denied', name);
    case 'timeout':
      throw new BangerError('timeout', `"failpoint ${name}" took too long`);
  }
}

/** As Node's file functions throw it. */
function errno(code: string, words: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${words}, open '${path}'`), { code, syscall: 'open', path });
}

function untilCancelled(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) return reject(abortError(signal));
    signal.addEventListener('abort', () => reject(abortError(signal)), { once: true });
  });
}

/**
 * Failpoints that `BANGER_FAILPOINTS` asks for: `POINT=FAILURE`, several with `;` between them. `@FILE` reads that
 * from a file at every point, and appends each point that is reached to `FILE.trace`.
 */
export function failpointsFrom(env: Readonly<Record<string, string | undefined>>): Failpoints | undefined {
  if (typeof isRelease !== 'undefined') return undefined;
  const text = env['BANGER_FAILPOINTS'];
  if (text === undefined) return undefined;
  if (!text.startsWith('@')) {
    const fixed = parse(text);
    return (point) => fixed.get(point);
  }
  const file = text.slice(1);
  return (point) => {
    appendFileSync(`${file}.trace`, `${point}\n`);
    return parse(readIfPresent(file)).get(point);
  };
}

function parse(text: string): ReadonlyMap<string, Failure> {
  const entries = text.split(/[;\n]/).filter((entry) => entry.trim() !== '');
  return new Map(
    entries.map((entry) => {
      const at = entry.lastIndexOf('=');
      const failure = failures.find((known) => known === entry.slice(at + 1).trim());
      if (at < 1 || !failure) throw new Error(`Failpoint "${entry}" is not POINT=${failures.join('|')}`);
      return [entry.slice(0, at).trim(), failure];
    }),
  );
}

function readIfPresent(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return '';
    throw error;
  }
}
