import { errorText } from '../errors.ts';
import type { Log } from './log.ts';

/** Longer than operations have to undo themselves; see cancel-operations.ts. */
const leaveTimeoutMs = 60_000;

interface LastResortInput {
  readonly log: Log;
  /** Begins the engine's orderly end. May be called again */
  readonly leave: () => void;
  /** Ends the process on the spot */
  readonly end: () => void;
  /** Ours; tests have one of their own */
  readonly process?: Pick<NodeJS.Process, 'on' | 'off'>;
}

/**
 * What nobody has caught, an exception or a rejection, is a bug, and how far it reaches is not known. The log gets it
 * with its stack, and the engine leaves: what is under way is undone, clients are told, and the next engine adopts the
 * VMs, which run on. Node alone would end the process in the middle of things; to go on as if nothing had happened
 * would be worse. Returns how to stop looking out.
 */
export function leaveOnBugs({ log, leave, end, process: ours = process }: LastResortInput): () => void {
  let deadline: NodeJS.Timeout | undefined;
  // Node raises rejections that nobody has handled as this, too.
  const onBug = (error: unknown, origin: string): void => {
    const stack = error instanceof Error ? error.stack : undefined;
    log('error', `a bug: nobody has caught "${errorText(error)}"`, { origin, stack });
    deadline ??= setTimeout(end, leaveTimeoutMs).unref();
    leave();
  };
  ours.on('uncaughtException', onBug);
  return () => {
    ours.off('uncaughtException', onBug);
    clearTimeout(deadline);
  };
}
