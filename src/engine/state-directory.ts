import { rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError } from '../errors.ts';
import { writeFileAtomic } from '../host/files.ts';
import { Deadline } from '../host/patience.ts';
import { identifyProcess } from '../host/process.ts';
import { takeEngineLock, type Database, type SqliteAddon } from '../state/database.ts';
import type { Layout } from '../state/layout.ts';
import { useSpareRoom } from '../state/spare-room.ts';
import { undoTimeoutMs } from './cancel-operations.ts';
import { hangUpTimeoutMs } from './rpc/server.ts';
import { isOfThisHost, readEngineNote, type EngineNote } from './rpc/engine-note.ts';

/** How long a new engine waits for one before it that is on its way out, and may have much to undo. */
export const lockTimeoutMs = undoTimeoutMs + hangUpTimeoutMs + 5_000;
/** One of another host is not leaving for our sake. */
const foreignTimeoutMs = 2_000;
const lockPollMs = 25;

/**
 * Makes this process the engine of its state directory, by a lock that the kernel frees when it ends. Undefined when
 * there is an engine already that clients can reach; throws `busy` when there is one that they cannot.
 */
export async function takeStateDirectory(layout: Layout, addon?: SqliteAddon): Promise<Database | undefined> {
  const deadline = new Deadline(lockTimeoutMs);
  const foreignDeadline = new Deadline(foreignTimeoutMs);
  for (;;) {
    const lock = takeEngineLock(layout.engineLock, addon);
    if (lock) {
      useSpareRoom(layout.database);
      await leaveNote(layout);
      return lock;
    }
    // An engine that answers is there to stay, or hands over; one that does not is on its way out.
    if (await isListening(layout.engineSocket)) return undefined;
    const note = readEngineNote(layout.engineNote);
    const isHere = note && isOfThisHost(note);
    if (isHere && (await isListening(note.socket))) return undefined;
    const isForeign = note !== undefined && !isHere;
    if (deadline.isOver() || (isForeign && foreignDeadline.isOver())) throw ownedElsewhere(layout, note);
    await sleep(lockPollMs);
  }
}

/** A state directory that two machines share, by NFS say, or an engine whose socket somebody has removed. */
function ownedElsewhere(layout: Layout, note: EngineNote | undefined): BangerError {
  if (note && !isOfThisHost(note)) {
    return new BangerError(
      'busy',
      `"${layout.stateDirectory}" is in use by the engine of another host: "${note.hostname}"`,
      {
        hint: `Stop it there with: banger engine stop. Or give each host its own place: BANGER_HOME=DIR banger …`,
      },
    );
  }
  return new BangerError('busy', `An engine that cannot be reached owns "${layout.stateDirectory}"`, {
    hint: note
      ? `Its socket was "${note.socket}". End it, which keeps VMs running, with: kill ${note.process.pid}`
      : 'Find it with: pgrep -a banger-engine',
  });
}

/**
 * Tells those who do not find us where they look, by their environment or on their host, where we are. A disk that is
 * full must not keep an engine from deleting what fills it.
 */
async function leaveNote(layout: Layout): Promise<void> {
  const note: EngineNote = {
    hostname: hostname(),
    socket: layout.engineSocket,
    process: identifyProcess(process.pid)!,
  };
  try {
    await writeFileAtomic(layout.engineNote, `${JSON.stringify(note)}\n`, 0o600);
  } catch {
    // Without one they start an engine, which finds that we are there; by the last one's they would look elsewhere.
    await rm(layout.engineNote, { force: true }).catch(() => undefined);
  }
}

async function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
