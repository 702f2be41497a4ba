import { mkdirSync, readlinkSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { errnoOf } from '../../errors.ts';
import { identifyProcess, isAlive } from '../../host/process.ts';

/**
 * Takes the lock of whoever starts an engine, and returns how to give it back; undefined while somebody else, who
 * lives, has it. It only saves fifty clients from starting fifty engines: that one engine lives is up to the lock of
 * the state directory.
 *
 * The lock is a symbolic link whose target says who holds it: both appear at once, so that a holder that was killed
 * is known at once, without a clock. A lock that one had to keep fresh would be lost by whoever is suspended.
 */
export function takeStartLock(path: string): (() => void) | undefined {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const mine = describe();
  try {
    symlinkSync(mine, path);
    return () => {
      if (holderOf(path) === mine) rmSync(path, { force: true });
    };
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
  }
  const holder = holderOf(path);
  if (holder !== undefined && !holds(holder)) breakLock(path, holder);
  return undefined;
}

/** Takes away the lock of a dead holder. If a live one has come in between, it gets its lock back. */
function breakLock(path: string, holder: string): void {
  const aside = `${path}.${process.pid}`;
  try {
    renameSync(path, aside);
    const taken = holderOf(aside);
    if (taken !== undefined && taken !== holder) symlinkSync(taken, path);
  } catch (error) {
    // Somebody else has broken it, or taken it meanwhile.
    if (errnoOf(error) !== 'ENOENT' && errnoOf(error) !== 'EEXIST') throw error;
  } finally {
    rmSync(aside, { recursive: true, force: true });
  }
}

function describe(): string {
  const { pid, startTime, bootId } = identifyProcess(process.pid)!;
  return `${pid} ${startTime} ${bootId}`;
}

function holds(holder: string): boolean {
  const [pid, startTime = '', bootId = ''] = holder.split(' ');
  return isAlive({ pid: Number(pid), startTime, bootId });
}

/** What the lock says; undefined when there is none. Anything but a link says nothing. */
function holderOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    if (errnoOf(error) === 'EINVAL') return '';
    throw error;
  }
}
