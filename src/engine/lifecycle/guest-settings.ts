import { BangerError } from '../../errors.ts';
import type { Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';

/** A guest that does not answer in this time gets it at its next start. */
const timeoutMs = 15_000;

/** Does at once what guest/start-image does at boot: the kernel's name, /etc/hostname, and our line in /etc/hosts. */
const hostnameScript = `
b=/run/banger/bin/busybox
$b hostname "$1" || exit 1
[ -L /etc/hostname ] || echo "$1" >/etc/hostname
[ -L /etc/hosts ] || [ ! -e /etc/hosts ] || {
  lines=$($b grep -v '^127\\.0\\.1\\.1 .* # banger$' /etc/hosts)
  printf '%s\\n127.0.1.1 %s # banger\\n' "$lines" "$1" >/etc/hosts
}`;

/**
 * Grows the mounted filesystem. resize2fs is in the initramfs, which the SSH service, our parent, has as its root; it
 * must see the image's mounts, else it would take the filesystem for one that is not mounted.
 */
const growScript = `
b=/run/banger/bin/busybox
want=$(($1 / 512)) tries=50
while read -r have </sys/class/block/vda/size && [ "$have" -lt "$want" ]; do
  tries=$((tries - 1)); [ "$tries" -gt 0 ] || exit 1
  $b sleep 0.1
done
exec /proc/$PPID/root/bin/resize2fs /dev/vda`;

/** Gives a running guest its VM's name. Throws when the guest does not do it. */
export async function setGuestHostname(context: EngineContext, vm: Vm, signal: AbortSignal): Promise<void> {
  await runScript(context, { vm, script: hostnameScript, word: vm.name }, signal);
}

/** Makes a running guest's root filesystem as large as its disk. Throws when the guest does not do it. */
export async function growGuestFilesystem(
  context: EngineContext,
  vm: Vm,
  signal: AbortSignal,
): Promise<void> {
  await runScript(context, { vm, script: growScript, word: String(vm.diskBytes) }, signal);
}

async function runScript(
  context: EngineContext,
  what: { readonly vm: Vm; readonly script: string; readonly word: string },
  signal: AbortSignal,
): Promise<void> {
  const bounded = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  const guest = await context.guest(what.vm, bounded);
  const argv = ['sh', '-c', what.script, 'sh', what.word];
  const { exit, stdout, stderr } = await guest.runToolbox(argv, { signal: bounded });
  if (exit.code === 0) return;
  const words = `${stdout.toString('utf8')}${stderr}`.trim().slice(-500);
  throw new BangerError('command_failed', `The guest of VM "${what.vm.name}" did not do it: ${words}`);
}
