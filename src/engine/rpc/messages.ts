import * as z from 'zod/mini';
import { BangerError, errorCodes, explainHostError } from '../../errors.ts';
import { partStates } from '../progress.ts';

// Parsing happens once per message; compiling validators would cost a short-lived client more than it saves.
z.config({ jitless: true });

/** Raised when a message changes meaning. Engine and client of different numbers refuse each other. */
export const protocolVersion = 1;

/** A line longer than this is an error, not a reason to allocate: 16 MiB. */
export const maxLineBytes = 16 * 1024 * 1024;

/** First message of every connection. */
export const helloParams = z.object({
  protocol: z.int(),
  /** Build id of the client's binary */
  build: z.string(),
  version: z.string(),
  /** Newest version of the database that it knows; absent: an older build than those that say */
  schema: z.optional(z.int()),
});

/** The engine's answer to hello. */
export const helloResult = z.object({
  protocol: z.int(),
  build: z.string(),
  version: z.string(),
  pid: z.int(),
  /** Set when builds differ: the engine is leaving, and the client starts its own */
  leaving: z.boolean(),
});
export type HelloResult = z.output<typeof helloResult>;

/** A JSON-RPC 2.0 error object; `data` carries what `BangerError` needs. */
export const wireError = z.object({
  code: z.int(),
  message: z.string(),
  data: z.object({
    code: z.enum(errorCodes),
    hint: z.optional(z.string()),
    /** Operation that failed, to be found in the engine log */
    operation: z.optional(z.string()),
  }),
});
export type WireError = z.output<typeof wireError>;

/** What a client shows while it waits. Sent as the parameters of a `progress` notification. */
export const progressEvent = z.object({
  stage: z.string(),
  detail: z.optional(z.string()),
  /** Work done so far and in total, in the same unit; total is absent while unknown */
  done: z.optional(z.number()),
  total: z.optional(z.number()),
  unit: z.optional(z.enum(['bytes', 'files'])),
  parts: z.optional(
    z.readonly(
      z.array(
        z.object({
          name: z.string(),
          state: z.enum(partStates),
          done: z.optional(z.number()),
          total: z.optional(z.number()),
        }),
      ),
    ),
  ),
});
/** `subject`: whose progress it is, which the client adds when it waits for several. */
export type ProgressEvent = z.output<typeof progressEvent> & { readonly subject?: string };

/**
 * Parameters of an `accepted` notification: the request with this id is being worked on. An engine that hangs up
 * before it has done nothing for the request, which may be asked again.
 */
export const acceptedEvent = z.object({ id: z.int() });

/** Any line a server sends: a response, or a notification. */
export const serverMessage = z.object({
  jsonrpc: z.literal('2.0'),
  id: z.optional(z.int()),
  method: z.optional(z.string()),
  params: z.optional(z.unknown()),
  result: z.optional(z.unknown()),
  error: z.optional(wireError),
});

/** Any line a client sends. */
export const clientMessage = z.object({
  jsonrpc: z.literal('2.0'),
  id: z.int(),
  method: z.string(),
  params: z.unknown(),
  /** Answer with the operation's id as soon as it has begun, and go on without whoever asked */
  detach: z.optional(z.boolean()),
});

/** The answer to a detached request. */
export const detachedResult = z.object({ operation: z.string() });

/** JSON-RPC's number for "application error"; the real code travels in `data`. */
const applicationError = -32000;

/**
 * The wire form of whatever a handler threw. Only a `BangerError` keeps its words, and what the
 * host refused gets some; the rest is ours to fix, and logged.
 */
export function toWireError(error: unknown, operation: string | undefined): WireError {
  const known = error instanceof BangerError ? error : explainHostError(error);
  if (known) {
    return {
      code: applicationError,
      message: known.message,
      data: { code: known.code, hint: known.hint, operation },
    };
  }
  return {
    code: applicationError,
    message: error instanceof Error ? error.message : String(error),
    data: {
      code: 'internal',
      hint: 'This is a bug in banger; the engine log has the details: banger engine status',
      operation,
    },
  };
}

export function fromWireError(error: WireError): BangerError {
  return new BangerError(error.data.code, error.message, { hint: error.data.hint });
}
