import type * as z from 'zod/mini';

/**
 * One thing the engine can be asked for, written once: clients send `params`, the engine answers
 * `result`, and both ends parse what arrives.
 */
export interface Method<
  Params extends z.ZodMiniType = z.ZodMiniType,
  Result extends z.ZodMiniType = z.ZodMiniType,
> {
  readonly name: string;
  readonly params: Params;
  readonly result: Result;
  /** Changes nothing: it is not listed as an operation, and may be asked again when no answer came */
  readonly isQuestion?: true;
}

/** A method whose connection turns into a byte stream (see `frames.ts`) once the engine has accepted it. */
export interface StreamMethod<Params extends z.ZodMiniType = z.ZodMiniType> {
  readonly name: string;
  readonly params: Params;
  readonly stream: true;
  /** Changes nothing, as with methods */
  readonly isQuestion?: true;
}

/** What a caller passes: defaults not yet filled in. */
export type ParamsOf<M extends { params: z.ZodMiniType }> = z.input<M['params']>;
/** What a handler receives: parsed, defaults filled in. */
export type ParsedParams<M extends { params: z.ZodMiniType }> = z.output<M['params']>;
export type ResultOf<M extends { result: z.ZodMiniType }> = z.output<M['result']>;

export function method<Params extends z.ZodMiniType, Result extends z.ZodMiniType>(
  name: string,
  params: Params,
  result: Result,
): Method<Params, Result> {
  return { name, params, result };
}

/** A method that changes nothing. */
export function question<Params extends z.ZodMiniType, Result extends z.ZodMiniType>(
  name: string,
  params: Params,
  result: Result,
): Method<Params, Result> {
  return { name, params, result, isQuestion: true };
}

export function streamMethod<Params extends z.ZodMiniType>(
  name: string,
  params: Params,
): StreamMethod<Params> {
  return { name, params, stream: true };
}

/** A stream that only tells, such as a log that is followed. */
export function questionStream<Params extends z.ZodMiniType>(
  name: string,
  params: Params,
): StreamMethod<Params> {
  return { name, params, stream: true, isQuestion: true };
}
