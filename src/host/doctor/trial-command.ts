import type { ClientChannel } from 'ssh2';
import { BangerError } from '../../errors.ts';
import { guestCommand } from '../guest-protocol.ts';
import type { SshConnection } from '../ssh.ts';

/** Runs a program that does nothing in a guest. Throws when it did not end well. */
export async function runTrue(ssh: SshConnection, protocol: number): Promise<void> {
  const command = guestCommand(protocol, 'banger-toolbox', ['true']);
  const { ended } = await ssh.exec(command, undefined, (channel) => ({
    ended: exitCodeOf(channel),
  }));
  const code = await ended;
  if (code === 0) return;
  throw new BangerError('guest_unreachable', `"true" ended in the guest with ${code ?? 'a signal'}`);
}

/** Null when a signal ended the program. */
function exitCodeOf(channel: ClientChannel): Promise<number | null> {
  return new Promise((resolve) => {
    let exitCode: number | null = null;
    channel.on('exit', (value: number | null) => {
      exitCode = value;
    });
    channel.once('close', () => resolve(exitCode));
    // Nothing is expected, but what is not read would hold back the end.
    channel.resume();
    channel.stderr.resume();
    channel.end();
  });
}
