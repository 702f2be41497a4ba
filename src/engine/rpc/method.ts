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
}

/** A method whose connection turns into a byte stream (see `frames.ts`) once the engine has accepted it. */
export interface StreamMethod<Params extends z.ZodMiniType = z.ZodMiniType> {
  readonly name: string;
  readonly params: Params;
  readonly stream: true;
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

export function streamMethod<Params extends z.ZodMiniType>(
  name: string,
  params: Params,
): StreamMethod<Params> {
  return { name, params, stream: true };
}
