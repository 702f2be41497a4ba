import { BangerError, errorText, explainHostError } from '../errors.ts';
import { printable, printableJson } from '../printable.ts';

/** An error the way all errors look: what and why on one line, what to do next on another; or as JSON. */
export function errorLines(error: unknown, json: boolean): string {
  const known =
    error instanceof BangerError
      ? error
      : (explainHostError(error) ?? new BangerError('internal', errorText(error)));
  const { code, message, hint } = known;
  if (json) return `${printableJson({ error: { code, message, hint } })}\n`;
  // Some of it may be a guest's or a registry's words.
  return `banger: ${printable(message)}\n${hint ? `  ${printable(hint)}\n` : ''}`;
}
