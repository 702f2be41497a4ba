/** Closed list of error codes. Scripts match codes; people read messages. */
export const errorCodes = [
  'not_found',
  'already_exists',
  'invalid_argument',
  'invalid_state',
  'busy',
  'host_unsupported',
  'command_failed',
  'guest_unreachable',
  'timeout',
  'cancelled',
  'internal',
] as const;

export type ErrorCode = (typeof errorCodes)[number];

/** An error for the person at the keyboard. It crosses the RPC boundary with code, message and hint intact. */
export class BangerError extends Error {
  override readonly name = 'BangerError';
  readonly code: ErrorCode;
  /** What to do next, ending in a command line where there is one */
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
  }
}

/** The text of anything that was thrown, for logs and joined messages. */
export function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The errno name (`ENOENT`) of a system error, or undefined for anything else. */
export function errnoOf(error: unknown): string | undefined {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return undefined;
}

/**
 * Turns an abort into the error people see. Signals abort with a `BangerError`
 * when somebody had a reason; anything else is a plain cancellation.
 */
export function abortError(signal: AbortSignal): BangerError {
  return signal.reason instanceof BangerError ? signal.reason : new BangerError('cancelled', 'Cancelled');
}
