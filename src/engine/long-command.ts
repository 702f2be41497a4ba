import { randomBytes } from 'node:crypto';
import { BangerError } from '../errors.ts';
import { shellQuote } from '../host/shell-quote.ts';
import type { Guest } from './guest.ts';

/**
 * The longest command, in bytes, that a guest's SSH service is asked with. Dropbear hangs up on one that is longer than
 * 9000 (`MAX_CMD_LEN` in its sysoptions.h).
 */
export const longestCommandBytes = 8_900;

/** In the guest's memory, root's alone. What was left for a program that never started goes with the next one. */
const receiveScript = `
umask 077
directory=/run/banger/commands
mkdir -p "$directory" || exit
find "$directory" -type f -mmin +10 -exec rm -f {} +
exec cat >"$directory/$1"`;

/**
 * Leaves a command in a guest and returns what the toolbox is to run instead: a script that takes itself away and
 * has the guest's part do what it would have done, had it been asked.
 */
export async function leaveCommand(
  runToolbox: Guest['runToolbox'],
  command: string,
  signal: AbortSignal | undefined,
): Promise<readonly string[]> {
  const id = randomBytes(16).toString('hex');
  const lines = ['rm -f "$0"', `set -- -c ${shellQuote([command])}`, '. /run/banger/lib/session', ''];
  const { exit, stderr } = await runToolbox(['sh', '-c', receiveScript, 'banger', id], {
    signal,
    input: Buffer.from(lines.join('\n')),
  });
  if (exit.code === 0) return ['sh', `/run/banger/commands/${id}`];
  throw new BangerError('command_failed', `The guest did not take the command: ${stderr.trim().slice(-300)}`);
}
