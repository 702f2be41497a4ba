import { randomBytes } from 'node:crypto';
import { BangerError } from '../../errors.ts';
import type { DeliveredSecrets, Guest } from '../guest.ts';
import { endOfTar, gnuMemberHeader, padding } from '../images/export/tar-writer.ts';

/** In the guest's memory, root's alone. What a killed engine has left there goes with the next delivery. */
const receiveScript = `
umask 077
directory=/run/banger/secrets
mkdir -p "$directory/$1" || exit
find "$directory" -mindepth 1 -maxdepth 1 -mmin +10 -exec rm -rf {} +
exec tar -x -f - -C "$directory/$1"`;

/**
 * Leaves values in a guest for the one program that is started with what this returns; it takes them away. They travel
 * as the input of a program: no command line, file of this host or log has them.
 */
export async function deliverSecrets(
  guest: Guest,
  secrets: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<DeliveredSecrets | undefined> {
  const names = Object.keys(secrets);
  if (names.length === 0) return undefined;
  const id = randomBytes(16).toString('hex');
  const script = ['sh', '-c', receiveScript, 'banger', id];
  const { exit } = await guest.runToolbox(script, { signal, input: tarOf(secrets) });
  if (exit.code === 0) return { id, names };
  // What the guest says of it may be the secrets, in any spelling, and errors are written down.
  const end =
    exit.code === undefined ? `was ended by SIG${exit.signal}` : `ended with exit code ${exit.code}`;
  throw new BangerError('command_failed', `The guest did not take secrets: its program ${end}`, {
    hint: 'They are kept in its memory. See whether there is room: banger vm exec VM -- df /run',
  });
}

/** Takes back what was left for a program that was not started. */
export async function withdrawSecrets(guest: Guest, { id }: DeliveredSecrets): Promise<void> {
  const remove = ['rm', '-rf', `/run/banger/secrets/${id}`];
  // A guest that does not answer any more loses them with its memory, or at the next delivery.
  await guest.runToolbox(remove, { signal: AbortSignal.timeout(10_000) }).catch(() => undefined);
}

function tarOf(secrets: Readonly<Record<string, string>>): Buffer {
  const members = Object.entries(secrets).map(([path, value]) => {
    const content = Buffer.from(value);
    const size = content.length;
    const head = { path, type: '0', mode: 0o400, uid: 0, gid: 0, size };
    return Buffer.concat([
      gnuMemberHeader({ ...head, mtime: { seconds: 0, nanoseconds: 0 } }),
      content,
      padding(size),
    ]);
  });
  return Buffer.concat([...members, endOfTar]);
}
