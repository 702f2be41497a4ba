import * as z from 'zod/mini';
import { errorCodes } from '../../errors.ts';
import { progressEvent } from './messages.ts';
import { question } from './method.ts';

/** An operation as clients see it. */
export const operationView = z.object({
  id: z.string(),
  /** The method, such as `vm.create` */
  kind: z.string(),
  /** Name of the VM, image reference or path it is about */
  subject: z.optional(z.string()),
  state: z.enum(['running', 'done', 'failed', 'cancelled']),
  /** Where it is, while it runs */
  progress: z.optional(progressEvent),
  /** In order; of one that runs, the last is under way */
  stages: z.array(z.object({ stage: z.string(), seconds: z.number() })),
  startedAt: z.string(),
  finishedAt: z.optional(z.string()),
  seconds: z.number(),
  error: z.optional(
    z.object({ code: z.enum(errorCodes), message: z.string(), hint: z.optional(z.string()) }),
  ),
  /** Steps that were taken back */
  undone: z.array(z.string()),
});
export type OperationView = z.output<typeof operationView>;

/** An id, or an unambiguous beginning of one. */
const reference = z.string().check(z.minLength(1));

/** Those under way, then those that finished: of the last hour, and none from before the engine's start. */
export const operationList = question('operation.list', z.object({}), z.array(operationView));

export const operationShow = question('operation.show', z.object({ operation: reference }), operationView);

/** Follows an operation to its end with its progress, and says how it ended. Whoever gives up does not cancel it. */
export const operationWatch = question('operation.watch', z.object({ operation: reference }), operationView);

/**
 * Cancels an operation and waits until it has been undone. Throws `invalid_state` when it had finished before;
 * one that finished in spite of it is told by its state.
 */
export const operationCancel = question(
  'operation.cancel',
  z.object({ operation: reference }),
  operationView,
);
