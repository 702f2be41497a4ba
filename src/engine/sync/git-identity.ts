import { errorText } from '../../errors.ts';
import type { Exec } from '../../host/exec.ts';
import type { Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import type { Guest } from '../guest.ts';
import type { Capability } from '../lifecycle/capabilities.ts';
import type { Operation } from '../operations.ts';
import { configText, generalIdentity } from '../workspace/host-tree/git-config.ts';
import { hostGit } from '../workspace/host-tree/host-git.ts';

const timeoutMs = 15_000;

/**
 * Lets root's git know who the user is: in a file of ours, included before all that the guest's own configuration says,
 * so that this wins, also what `git config --global` sets later. An image that names somebody for all users means it.
 */
const tellScript = `
umask 077
directory=$1/root/.config/git
if grep -qis '^[[:space:]]*\\[user\\]' "$1/etc/gitconfig"; then
  rm -f "$directory/banger"
  exit
fi
mkdir -p "$directory" && cat >"$directory/banger.new" && mv -f "$directory/banger.new" "$directory/banger" || exit
! grep -qs '^[[:space:]]*path = banger$' "$directory/config" || exit 0
{
  printf '[include]\\n\\tpath = banger\\n'
  [ ! -e "$directory/config" ] || cat "$directory/config"
} >"$directory/config.new" && cat "$directory/config.new" >"$directory/config" && rm -f "$directory/config.new"`;

/** Whoever commits in a guest does so as the user does here, unless the guest says otherwise. */
export const gitIdentity: Capability = {
  name: 'git identity',
  afterStart: tellIdentity,
};

/** Tells a running guest who the user is in git, when it does not know that yet. It not working is a warning. */
export async function tellIdentity(context: EngineContext, vm: Vm, operation: Operation): Promise<void> {
  const { signal } = operation;
  if (!context.config().gitIdentity) return;
  const text = await identityText(context.exec, signal);
  if (text === '' || text === context.handles.get(vm.id)?.gitIdentity) return;
  try {
    await writeIdentity(await context.guest(vm, signal), text, { signal });
    await context.handles.update(vm.id, { gitIdentity: text });
  } catch (error) {
    if (signal.aborted) throw error;
    operation.note?.(`Warning: git in the VM does not know who you are: ${errorText(error)}`);
  }
}

/** What the user has told git to be everywhere on this host, as a configuration file; empty when that is nothing. */
export async function identityText(exec: Exec, signal: AbortSignal): Promise<string> {
  const identity = await generalIdentity(hostGit({ exec, directory: '/', signal }));
  return configText([...identity]);
}

/** `root` is where the guest's files are. */
export async function writeIdentity(
  guest: Guest,
  text: string,
  { signal, root = '' }: { readonly signal: AbortSignal; readonly root?: string },
): Promise<void> {
  const bounded = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  const argv = ['sh', '-c', tellScript, 'banger', root];
  const { exit, stderr } = await guest.runToolbox(argv, { signal: bounded, input: Buffer.from(text) });
  if (exit.code !== 0) throw new Error(stderr.trim().slice(-300));
}
