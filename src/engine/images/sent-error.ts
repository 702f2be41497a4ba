import { BangerError, errnoOf, type ErrorCode } from '../../errors.ts';

/** An error on its way between threads, of which structured cloning would keep the text only. */
export interface SentError {
  readonly message: string;
  readonly stack: string | undefined;
  /** Of a `BangerError` */
  readonly code?: ErrorCode;
  readonly hint?: string | undefined;
  /** Such as `ENOSPC` */
  readonly errno?: string | undefined;
}

export function encodeError(error: unknown): SentError {
  if (error instanceof BangerError) {
    return { message: error.message, stack: error.stack, code: error.code, hint: error.hint };
  }
  if (!(error instanceof Error)) return { message: String(error), stack: undefined };
  return { message: error.message, stack: error.stack, errno: errnoOf(error) };
}

export function decodeError({ message, stack, code, hint, errno }: SentError): Error {
  const error =
    code === undefined
      ? new Error(message)
      : new BangerError(code, message, hint === undefined ? {} : { hint });
  if (stack !== undefined) error.stack = stack;
  return errno === undefined ? error : Object.assign(error, { code: errno });
}
