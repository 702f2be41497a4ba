import { abortError, errorText } from '../../errors.ts';
import { failpoint } from '../failpoints.ts';
import type { Log } from '../log.ts';
import type { Operation } from '../operations.ts';

/** One change to the host, and how to take it back. */
export interface Step<T> {
  /** Shown to the user while it runs, and named in the log if taking it back fails */
  readonly stage: string;
  readonly apply: () => T | Promise<T>;
  /**
   * Registered before `apply` runs, so it must cope with one that stopped halfway or never began. It is told what
   * went wrong.
   */
  readonly undo?: (error: unknown) => void | Promise<void>;
}

export type RunStep = <T>(step: Step<T>) => Promise<T>;

/**
 * Runs `body`; if it fails, takes back its steps in reverse order and rethrows.
 *
 * The first step owns what names all the others (a row in the database): its undo runs only when every other
 * undo has worked, so that what is left keeps its owner, and the reconciler tries again.
 */
export async function withRollback<T>(
  operation: Operation,
  log: Log,
  body: (run: RunStep) => Promise<T>,
): Promise<T> {
  const begun: Step<unknown>[] = [];
  try {
    return await body(async (step) => {
      if (operation.signal.aborted) throw abortError(operation.signal);
      begun.push(step);
      await failpoint(`${step.stage}:before`);
      operation.enter(step.stage);
      const result = await step.apply();
      await failpoint(`${step.stage}:after`);
      return result;
    });
  } catch (error) {
    await unwind(begun, { operation, error, log });
    throw error;
  }
}

async function unwind(
  begun: readonly Step<unknown>[],
  { operation, error: reason, log }: { operation: Operation; error: unknown; log: Log },
): Promise<void> {
  let isClean = true;
  for (const [index, step] of [...begun.entries()].reverse()) {
    if (index === 0 && !isClean) return;
    try {
      if (!step.undo) continue;
      await failpoint(`${step.stage}:undo`);
      await step.undo(reason);
      operation.undid?.(step.stage);
    } catch (error) {
      isClean = false;
      log('error', `undo failed: ${step.stage}: ${errorText(error)}`, { operation: operation.id });
    }
  }
}
