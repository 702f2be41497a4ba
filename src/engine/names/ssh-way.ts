import { BangerError } from '../../errors.ts';
import { findVm, resolveVm, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import type { ParsedParams, ResultOf } from '../rpc/method.ts';
import { vmDomain, type sshWay } from '../rpc/ssh-methods.ts';
import type { SshFiles } from './ssh-files.ts';

/** Finds the SSH service of the VM that ssh was told, when its guest is there to answer. */
export async function findSshWay(
  context: EngineContext,
  files: SshFiles,
  { host, signal }: ParsedParams<typeof sshWay> & { readonly signal: AbortSignal },
): Promise<ResultOf<typeof sshWay>> {
  const name = host.toLowerCase().replace(new RegExp(`(?:\\.${vmDomain})?\\.?$`), '');
  const vm = await whenStarted(context, resolveVm(context.db, name), signal);
  const handles = context.handles.get(vm.id);
  if (vm.state !== 'running' || !handles) throw notRunning(vm);
  await files.writeKnownHosts();
  return { vm: vm.name, address: handles.sshHost ?? '127.0.0.1', port: handles.sshPort };
}

/** Somebody who has just asked for a VM to be started does not mean to be turned away. */
async function whenStarted(context: EngineContext, found: Vm, signal: AbortSignal): Promise<Vm> {
  let vm: Vm | undefined = found;
  while (vm?.state === 'creating' || vm?.state === 'starting') {
    await context.events.next(({ type, id }) => type === 'vm' && id === found.id, signal);
    vm = findVm(context.db, found.id);
  }
  if (vm) return vm;
  throw new BangerError('not_found', `VM "${found.name}" was deleted`, {
    hint: 'List VMs with: banger vm list',
  });
}

function notRunning({ name, state }: Vm): BangerError {
  const isPaused = state === 'paused';
  return new BangerError('invalid_state', `VM "${name}" is ${isPaused ? 'paused' : 'not running'}`, {
    hint: isPaused ? `Let it go on with: banger vm resume ${name}` : `Start it with: banger vm start ${name}`,
  });
}
