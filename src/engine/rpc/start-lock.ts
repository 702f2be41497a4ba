import { mkdirSync, readlinkSync, rmSync, symlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import lockfile from 'proper-lockfile';
import { errnoOf } from '../../errors.ts';
import { identifyProcess, isAlive } from '../../host/process.ts';

/** No age makes the lock stale, whatever the clock does: whether its holder lives is what counts. In milliseconds. */
const never = 40 * 24 * 60 * 60 * 1000;

/**
 * Takes the lock of whoever starts an engine, and returns how to give it back; undefined while somebody else, who
 * lives, has it. It only saves fifty clients from starting fifty engines: that one engine lives is up to the lock of
 * the state directory.
 *
 * Beside the lock a symbolic link says who holds it, so that a holder that was killed is known at once, without a
 * clock. A lock that one had to keep fresh would be lost by whoever is suspended.
 */
export async function takeStartLock(path: string): Promise<(() => Promise<void>) | undefined> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const options = { realpath: false, stale: never, update: never / 2, onCompromised: () => undefined };
  const note = `${path}.holder`;
  const mine = describe();
  try {
    const release = await lockfile.lock(path, options);
    try {
      rmSync(note, { recursive: true, force: true });
      symlinkSync(mine, note);
    } catch (error) {
      await release().catch(() => undefined);
      throw error;
    }
    return async () => {
      // Not ours any more: somebody took us for dead.
      if (holderOf(note) !== mine) return;
      rmSync(note, { force: true });
      await release().catch(() => undefined);
    };
  } catch (error) {
    const errno = errnoOf(error);
    // It is a convenience, and an engine is what makes room.
    if (errno === 'ENOSPC' || errno === 'EDQUOT') return () => Promise.resolve();
    if (errno !== 'ELOCKED') throw error;
  }
  if (isDead(holderOf(note), path)) {
    // Should two of us break it at once, two engines start, and the lock of the state directory lets one live.
    rmSync(note, { recursive: true, force: true });
    rmSync(`${path}.lock`, { recursive: true, force: true });
  }
  return undefined;
}

/** When a lock without a note was first seen by this process: its holder notes who it is within a moment. */
const seenWithoutNote = new Map<string, number>();
const noteWithinMs = 1_000;

function isDead(holder: string | undefined, path: string): boolean {
  if (holder !== undefined) {
    seenWithoutNote.delete(path);
    return !holds(holder);
  }
  const since = seenWithoutNote.get(path) ?? performance.now();
  seenWithoutNote.set(path, since);
  return performance.now() - since > noteWithinMs;
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
