import { stat } from 'node:fs/promises';
import type { Stats } from 'node:fs';
import { BangerError, errnoOf } from '../errors.ts';

/** Throws `invalid_argument` unless an SSH agent of our own user can listen there. */
export async function checkAgentSocket(path: string): Promise<void> {
  const why = await stat(path).then(problemOf, (error: unknown) => errnoOf(error) ?? String(error));
  if (why === undefined) return;
  throw new BangerError(
    'invalid_argument',
    `SSH_AUTH_SOCK is "${path}", where no agent of yours listens: ${why}`,
    {
      hint: 'Start one with: eval "$(ssh-agent)"; ssh-add',
    },
  );
}

function problemOf(found: Stats): string | undefined {
  if (!found.isSocket()) return 'it is not a socket';
  const uid = process.getuid!();
  return found.uid === uid ? undefined : `it belongs to user ${found.uid}, not to you (${uid})`;
}
