import { BangerError, errorText } from '../../errors.ts';
import { findVm, getVm, setEphemeral, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import type { GuestExit } from '../guest.ts';
import { uncancellable, type TimedOperation } from '../operations.ts';
import type { EngineStream } from '../rpc/frame-stream.ts';
import type { RunSummary } from '../rpc/vm-methods.ts';
import { checkTree } from '../workspace/inspect-tree.ts';
import { prepareWorkspace } from '../workspace/prepare-workspace.ts';
import { createVm, type CreateVmParams } from './create-vm.ts';
import { deleteVm } from './delete-vm.ts';
import { execVm, type ExecParams } from './exec-vm.ts';
import { savePatch } from './save-patch.ts';

export interface RunParams extends ExecParams, Omit<CreateVmParams, 'start' | 'ephemeral'> {
  readonly path?: string;
  readonly includeUntracked: boolean;
  /** Run nothing: it is over when the VM is ready */
  readonly detach: boolean;
  readonly remove: boolean;
}

/**
 * The main job: makes a VM, sends a working tree, runs a program, and cleans up.
 *
 * With `remove`, the VM goes whatever the outcome, also when the client has gone; what the program changed in the
 * working tree is saved as a patch first. Without, it stays, and only a VM that never came up is taken back.
 */
export async function runVm(
  context: EngineContext,
  params: RunParams,
  run: { readonly operation: TimedOperation; readonly stream: EngineStream },
): Promise<GuestExit & RunSummary> {
  const { operation, stream } = run;
  // What cannot be sent is refused before a VM is made for it.
  if (params.path !== undefined) await checkTree(context.exec, params.path, operation.signal);
  const vm = await createVm(context, { ...params, start: true, ephemeral: true }, operation);
  try {
    if (params.path !== undefined) await sendTree(context, { vm, params, path: params.path }, operation);
    if (!params.remove) setEphemeral(context.db, vm.id, false);
    const exit = params.detach ? { code: 0 } : await runProgram(context, { vm, params, stream }, operation);
    const patch = params.remove ? await takeDown(context, vm, operation) : undefined;
    return { ...exit, vm: vm.name, removed: params.remove, stages: [...operation.timings()], patch };
  } catch (error) {
    const isLeft = findVm(context.db, vm.id)?.ephemeral ?? false;
    const patch = isLeft ? await takeDown(context, vm, operation) : undefined;
    throw patch ? withPatch(error, patch.path) : error;
  }
}

async function runProgram(
  context: EngineContext,
  run: { readonly vm: Vm; readonly params: RunParams; readonly stream: EngineStream },
  operation: TimedOperation,
): Promise<GuestExit> {
  operation.enter('Running');
  return execVm(context, { ...run, vm: getVm(context.db, run.vm.id) }, operation);
}

/** Says where the changes are that a run left, which did not end as it should. */
function withPatch(error: unknown, path: string): unknown {
  if (!(error instanceof BangerError)) return error;
  const saved = `What it changed in the working tree is saved: git apply ${path}`;
  return new BangerError(error.code, error.message, {
    hint: error.hint ? `${error.hint}. ${saved}` : saved,
    cause: error,
  });
}

async function sendTree(
  context: EngineContext,
  what: { readonly vm: Vm; readonly params: RunParams; readonly path: string },
  operation: TimedOperation,
): Promise<void> {
  const { vm, params, path } = what;
  const { warnings, untracked } = await prepareWorkspace(
    context,
    { path, vm: vm.name, includeUntracked: params.includeUntracked, overwrite: false },
    operation,
    () => Promise.reject(new BangerError('internal', 'The VM of this run is known')),
  );
  for (const warning of warnings) operation.note?.(`Warning: ${warning}`);
  if (untracked > 0) {
    const files = untracked === 1 ? '1 untracked file' : `${untracked} untracked files`;
    operation.note?.(`${files} stayed behind; to send them too: --include-untracked`);
  }
}

/** Long enough for a large patch of an emulated guest; a guest that hangs must not be waited for for ever. */
const takeDownTimeoutMs = 5 * 60 * 1000;

/** Deletes the run's VM, whoever has gone meanwhile; what it changed in the working tree is saved before. */
async function takeDown(
  context: EngineContext,
  vm: Vm,
  operation: TimedOperation,
): Promise<RunSummary['patch']> {
  const detached = uncancellable(operation, AbortSignal.timeout(takeDownTimeoutMs));
  let patch: RunSummary['patch'];
  try {
    patch = await savePatch(context, vm, detached);
  } catch (error) {
    // Its only copy is in the guest: a VM whose changes could not be saved stays, for the user to look at.
    setEphemeral(context.db, vm.id, false);
    throw new BangerError(
      'command_failed',
      `Changes in VM "${vm.name}" could not be saved: ${errorText(error)}`,
      {
        hint: `The VM was kept. Get them with: banger vm start ${vm.name}; banger workspace export --vm ${vm.name}; then: banger vm delete ${vm.name}`,
        cause: error,
      },
    );
  }
  await deleteVm(context, vm.id, detached);
  return patch;
}
