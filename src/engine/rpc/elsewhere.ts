import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError } from '../../errors.ts';
import { Deadline } from '../../host/patience.ts';
import { isAlive } from '../../host/process.ts';
import type { RpcClient } from './client.ts';
import { connectIfRunning, type ConnectOptions } from './connect.ts';
import { isOfThisHost, readEngineNote } from './engine-note.ts';

/** How long an engine may take that has no socket yet, or none any more. */
const patienceMs = 3_000;
const pollMs = 50;

/** A connection to an engine that was started with other ideas of where sockets belong: by cron, say, or `su`. */
export async function connectElsewhere(options: ConnectOptions): Promise<RpcClient | undefined> {
  const note = readEngineNote(options.engineNote);
  if (!note || note.socket === options.socketPath || !isOfThisHost(note)) return undefined;
  return connectIfRunning({ ...options, socketPath: note.socket });
}

/** Where an engine of this state directory listens, or would. */
export function engineSocketOf(paths: {
  readonly engineSocket: string;
  readonly engineNote: string;
}): string {
  const note = readEngineNote(paths.engineNote);
  const isElsewhere = note && !existsSync(paths.engineSocket) && isOfThisHost(note);
  return isElsewhere && existsSync(note.socket) ? note.socket : paths.engineSocket;
}

/**
 * A connection to the engine that runs, wherever it listens; undefined when there is none. Throws `busy` for one that
 * nobody can reach, since its socket was removed, say.
 */
export async function connectAnywhere(options: ConnectOptions): Promise<RpcClient | undefined> {
  const deadline = new Deadline(patienceMs);
  for (;;) {
    const client = (await connectIfRunning(options)) ?? (await connectElsewhere(options));
    if (client) return client;
    const note = readEngineNote(options.engineNote);
    if (!note || !isOfThisHost(note) || !isAlive(note.process)) return undefined;
    if (deadline.isOver())
      throw new BangerError(
        'busy',
        `An engine runs that cannot be reached: its socket was "${note.socket}"`,
        {
          hint: `End it, which keeps VMs running, with: kill ${note.process.pid}`,
        },
      );
    await sleep(pollMs);
  }
}
