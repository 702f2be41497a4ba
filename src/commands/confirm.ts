import { BangerError } from '../errors.ts';
import type { Cli } from './cli.ts';

/** Asks before something is removed; false when the answer is no. Without a terminal there is nobody to ask: an error. */
export async function confirm(cli: Cli, question: string): Promise<boolean> {
  const answer = await cli.ask(question);
  if (answer !== undefined) return answer;
  throw new BangerError(
    'invalid_argument',
    'This asks before it removes anything, and there is no terminal',
    {
      hint: 'See what would go with --dry-run, and remove it with --force',
    },
  );
}
