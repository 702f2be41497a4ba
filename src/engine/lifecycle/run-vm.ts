import { realpath } from 'node:fs/promises';
import { posix } from 'node:path';
import { BangerError, errorText } from '../../errors.ts';
import { checkAgentSocket } from '../../host/agent-socket.ts';
import { beginFurnishing } from '../../state/furnishing.ts';
import { findVm, getVm, setEphemeral, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import type { GuestExit } from '../guest.ts';
import { holdImage } from '../images/hold-image.ts';
import { uncancellable, type TimedOperation } from '../operations.ts';
import type { EngineStream } from '../rpc/frame-stream.ts';
import { leftBehindText } from '../rpc/left-behind-text.ts';
import type { RunSummary } from '../rpc/vm-methods.ts';
import { withTemplate } from '../setup/apply-template.ts';
import { furnishVm, planFurniture, type Furniture } from '../setup/furnish-vm.ts';
import { withoutVm } from '../setup/without-vm.ts';
import type { TemplateChoice } from '../setup/template-consent.ts';
import type { GuestBranch } from '../workspace/host-tree/guest-branch.ts';
import { checkTree } from '../workspace/host-tree/inspect-tree.ts';
import { planWorkspace } from '../workspace/plan-workspace.ts';
import { prepareWorkspace } from '../workspace/prepare-workspace.ts';
import { UnsavedWorkError } from '../workspace/refuse-unsaved.ts';
import { createVm, type CreateVmParams } from './create-vm.ts';
import { deleteVm } from './delete-vm.ts';
import { execVm, type ExecParams } from './exec-vm.ts';
import { planProgram } from './image-program.ts';
import { savePatch } from './save-patch.ts';

export interface RunParams
  extends ExecParams, Omit<CreateVmParams, 'start' | 'ephemeral' | 'recordedTemplate'> {
  readonly path?: string;
  /** A branch that only the guest gets */
  readonly guestBranch?: GuestBranch;
  readonly includeUntracked: boolean;
  readonly include: readonly string[];
  /** What the tree says about its VM, as it was shown */
  readonly template?: TemplateChoice;
  /** Install the tools that the tree names */
  readonly bootstrap: boolean;
  /** Hash of what the files of the tools say, if the user agrees to that now */
  readonly trustTools?: string;
  /** Keep the VM also when it cannot be set up */
  readonly keepFailed: boolean;
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
  const { operation } = run;
  if (params.agentSocket !== undefined) await checkAgentSocket(params.agentSocket);
  // What cannot be sent is refused before a VM is made for it.
  const tree =
    params.path === undefined
      ? undefined
      : await planTree(context, { ...params, path: params.path }, operation);
  const wanted = withTemplate(params, tree?.furniture.template, {
    network: params.network ?? context.config().network,
    note: (sentence) => operation.note?.(sentence),
  });
  if (params.entrypoint) await checkEntrypoint(context, wanted, operation);
  const vm = await createVm(context, { ...wanted, start: true, ephemeral: true }, operation);
  if (tree) await furnish(context, { vm, params, tree }, operation);
  try {
    if (!params.remove) setEphemeral(context.db, vm.id, false);
    const exit = params.detach
      ? { code: 0 }
      : await runProgram(context, { ...run, vm, params: inTree(params, tree) }, operation);
    const { name } = latest(context, vm);
    const patch = params.remove ? await takeDown(context, vm, operation) : undefined;
    return { ...exit, vm: name, removed: params.remove, stages: [...operation.timings()], patch };
  } catch (error) {
    const isLeft = findVm(context.db, vm.id)?.ephemeral ?? false;
    if (!isLeft) throw error;
    const { name } = latest(context, vm);
    const patch = await takeDown(context, vm, operation);
    const told = withoutVm(error, { name }, params.path ?? '-- COMMAND');
    throw patch ? withPatch(told, patch.path) : told;
  }
}

/** An image that has nothing to run by itself is told before a VM is made of it. */
async function checkEntrypoint(
  context: EngineContext,
  params: RunParams,
  operation: TimedOperation,
): Promise<void> {
  operation.enter('Finding image');
  const name = params.image ?? context.config().image;
  using held = await holdImage(context, name, operation);
  planProgram({ ...params, workingDirectory: undefined }, { name, config: held.image.config }, undefined);
}

/** A run's VM as it is now: anybody may rename it, and give its old name to another. */
function latest(context: EngineContext, vm: Vm): Vm {
  return findVm(context.db, vm.id) ?? vm;
}

/** A program runs in the directory that was named, though the tree around it travels as a whole. */
function inTree(params: RunParams, tree: PlannedTree | undefined): RunParams {
  const { workingDirectory = '' } = params;
  if (!tree || tree.directory === '' || workingDirectory.startsWith('/')) return params;
  return { ...params, workingDirectory: posix.join(tree.directory, workingDirectory) };
}

/** A working tree that can be sent, and what its VM gets because it says so. */
interface PlannedTree {
  readonly path: string;
  /** Where `path` is in the tree; empty at its top */
  readonly directory: string;
  readonly furniture: Furniture;
}

async function planTree(
  context: EngineContext,
  params: RunParams & { readonly path: string },
  operation: TimedOperation,
): Promise<PlannedTree> {
  const { path, template: choice, image, bootstrap, trustTools, network, egress } = params;
  if (params.guestBranch)
    await planWorkspace(context, { ...params, include: [...params.include], path }, operation);
  const { topLevel: hostPath } = await checkTree(context.exec, { ...params, signal: operation.signal });
  const wanted = { hostPath, choice, image, bootstrap, trustTools, network, egress };
  const directory = posix.relative(hostPath, await realpath(path));
  return { path, directory, furniture: await planFurniture(context, wanted, operation) };
}

/** Sends the tree and sets the VM up. One where that failed goes: nobody has worked in it yet. */
async function furnish(
  context: EngineContext,
  what: { readonly vm: Vm; readonly params: RunParams; readonly tree: PlannedTree },
  operation: TimedOperation,
): Promise<void> {
  const { vm, params, tree } = what;
  beginFurnishing(context.db, vm.id);
  try {
    const guestPath = await sendTree(context, what, operation);
    await furnishVm(context, { vm, guestPath, furniture: tree.furniture, env: params.env }, operation);
  } catch (error) {
    const now = latest(context, vm);
    if (!params.keepFailed || operation.signal.aborted) {
      await deleteVm(context, vm.id, uncancellable(operation, AbortSignal.timeout(takeDownTimeoutMs)));
      throw withoutVm(error, now, tree.path);
    }
    setEphemeral(context.db, vm.id, false);
    throw kept(error, now);
  }
}

function kept(error: unknown, { name }: Vm): unknown {
  if (!(error instanceof BangerError)) return error;
  return new BangerError(error.code, error.message, {
    hint: `VM "${name}" was kept. Enter it: banger vm ssh ${name}; delete it: banger vm delete ${name}`,
    cause: error,
  });
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

/** Returns where it is in the guest. */
async function sendTree(
  context: EngineContext,
  what: { readonly vm: Vm; readonly params: RunParams; readonly tree: PlannedTree },
  operation: TimedOperation,
): Promise<string> {
  const { vm, params, tree } = what;
  const sent = await prepareWorkspace(
    context,
    {
      path: tree.path,
      vm: vm.id,
      includeUntracked: params.includeUntracked,
      include: [...params.include],
      guestBranch: params.guestBranch,
      overwrite: false,
      fullHistory: false,
      readonly: false,
    },
    operation,
    () => Promise.reject(new BangerError('internal', 'The VM of this run is known')),
  );
  for (const warning of sent.warnings) operation.note?.(`Warning: ${warning}`);
  for (const line of leftBehindText(sent)) operation.note?.(line);
  return sent.guestPath;
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
    const { name } = latest(context, vm);
    const way =
      error instanceof UnsavedWorkError && error.hint !== undefined
        ? `${error.hint}; the rest with: banger workspace export --vm ${name}`
        : `Get them with: banger vm start ${name}; banger workspace export --vm ${name}`;
    throw new BangerError(
      'command_failed',
      `Changes in VM "${name}" could not be saved: ${errorText(error)}`,
      { hint: `The VM was kept. ${way}; then: banger vm delete ${name}`, cause: error },
    );
  }
  await deleteVm(context, vm.id, detached);
  return patch;
}
