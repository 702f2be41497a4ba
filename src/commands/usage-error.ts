import { BangerError } from '../errors.ts';

/** Words on the command line that make no sense together: found before anything was asked of the engine. */
export class UsageError extends BangerError {
  constructor(message: string, hint: string) {
    super('invalid_argument', message, { hint });
  }
}
