import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from './log.ts';
import type { OperationRegistry } from './operations.ts';

/** How long operations have to undo themselves when the engine ends. */
export const undoTimeoutMs = 30_000;
const undoPollMs = 25;

/**
 * What is under way is cancelled, and given time to undo itself: the next engine would have to. Questions have nothing to
 * undo, and whoever asked them may have stopped reading.
 */
export async function cancelOperations(operations: OperationRegistry, log: Log): Promise<void> {
  operations.endAll();
  const deadline = performance.now() + undoTimeoutMs;
  while (operations.workCount > 0 && performance.now() < deadline) await sleep(undoPollMs);
  if (operations.workCount > 0)
    log('warn', 'leaving with operations unfinished; the next engine finishes them');
}
