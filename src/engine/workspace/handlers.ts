import { BangerError } from '../../errors.ts';
import type { EngineContext } from '../context.ts';
import { createVm } from '../lifecycle/create-vm.ts';
import { deleteVm } from '../lifecycle/delete-vm.ts';
import { startVm } from '../lifecycle/start-vm.ts';
import { withTemplate } from '../setup/apply-template.ts';
import {
  admitNewTools,
  dropNewTools,
  furnishVm,
  planFurniture,
  renewTools,
  type Furniture,
} from '../setup/furnish-vm.ts';
import { tellIdentity } from '../sync/git-identity.ts';
import { withoutVm } from '../setup/without-vm.ts';
import { templateNews } from '../setup/template-news.ts';
import { beginFurnishing } from '../../state/furnishing.ts';
import { resolveVm, setEphemeral, type Vm } from '../../state/vms.ts';
import { listWorkspaces } from '../../state/workspaces.ts';
import { uncancellable, type Operation } from '../operations.ts';
import type { ParsedParams, ResultOf } from '../rpc/method.ts';
import type { workspaceApply, workspacePrepare, workspaceWatch } from '../rpc/workspace-methods.ts';
import { applyWorkspace } from './apply-workspace.ts';
import { findReusableVm } from './bound-vm.ts';
import { checkTree } from './host-tree/inspect-tree.ts';
import { guestPathOf, prepareWorkspace, type EnsureVm } from './prepare-workspace.ts';
import { tellWorkspace } from './workspace-events.ts';
import type { EngineStream } from '../rpc/frame-stream.ts';
import { watchWorkspace } from './watch-workspace.ts';
import { shellWord } from '../../host/shell-quote.ts';

type PrepareParams = ParsedParams<typeof workspacePrepare>;

/** A VM that is made for the tree goes again when the tree does not arrive, or the VM cannot be set up. */
export async function prepareWorkspaceRoute(
  context: EngineContext,
  params: PrepareParams,
  operation: Operation,
): Promise<ResultOf<typeof workspacePrepare>> {
  let created: { readonly vm: Vm; readonly furniture: Furniture } | undefined;
  await admitToVm(context, params, operation);
  try {
    const sent = await prepareWorkspace(context, params, operation, async (hostPath) => {
      const chosen = await ensureVm(context, { hostPath, params }, operation);
      if (chosen.furniture) created = { vm: chosen.vm, furniture: chosen.furniture };
      return { vm: chosen.vm, created: chosen.furniture !== undefined };
    });
    if (created) {
      await furnishVm(context, { ...created, guestPath: sent.guestPath, env: {} }, operation);
      setEphemeral(context.db, created.vm.id, false);
      return sent;
    }
    const vm = resolveVm(context.db, sent.vm);
    await tellIdentity(context, vm, operation);
    const news = await templateNews(context.db, vm, sent.hostPath);
    if (news) operation.note?.(news);
    if (params.bootstrap)
      await renewTools(context, { ...sent, vm, trustTools: params.trustTools }, operation);
    return sent;
  } catch (error) {
    if (!created) throw error;
    await deleteVm(context, created.vm.id, uncancellable(operation));
    throw withoutVm(error, created.vm, params.path);
  }
}

/** What a VM that is there already may not have of a tree is told before it has the rest. */
async function admitToVm(
  context: EngineContext,
  params: Pick<PrepareParams, 'path' | 'vm' | 'guestPath' | 'trustTools' | 'bootstrap'>,
  operation: Operation,
): Promise<void> {
  const { path, trustTools } = params;
  const vm =
    params.vm === undefined ? findReusableVm(context.db, path)?.vm : resolveVm(context.db, params.vm);
  if (!vm) return;
  const isKnown = listWorkspaces(context.db, vm.id).some((each) => each.hostPath === path);
  const hostPath = isKnown
    ? path
    : (await checkTree(context.exec, { path, signal: operation.signal })).topLevel;
  const guestPath = guestPathOf(context, { vm, hostPath, chosen: params.guestPath });
  const place = { vm, hostPath, guestPath };
  if (params.bootstrap) await admitNewTools(context, { ...place, trustTools });
  else await dropNewTools(context, place, operation);
}

export async function applyWorkspaceRoute(
  context: EngineContext,
  params: ParsedParams<typeof workspaceApply>,
  operation: Operation,
): Promise<ResultOf<typeof workspaceApply>> {
  const result = await applyWorkspace(context, params, operation);
  if (result.isApplied && result.files.length > 0) tellWorkspace(context, 'applied', result);
  return result;
}

/** Watching makes no VM: it goes on with the one that the tree was sent to, started if need be. */
export function watchWorkspaceRoute(
  context: EngineContext,
  params: ParsedParams<typeof workspaceWatch>,
  { operation, stream }: { readonly operation: Operation; readonly stream: Pick<EngineStream, 'send'> },
): Promise<void> {
  const findVm: EnsureVm = async (hostPath) => {
    const bound = findReusableVm(context.db, hostPath);
    if (bound) return { vm: await startVm(context, bound.vm.id, operation), created: false };
    throw new BangerError('not_found', `"${hostPath}" has not been sent to any VM`, {
      hint: `Send it with: banger workspace prepare ${shellWord(hostPath)}`,
    });
  };
  const beforeSend = (): Promise<void> =>
    admitToVm(context, { ...params, trustTools: undefined, bootstrap: false }, operation);
  return watchWorkspace(context, params, { operation, stream, ensureVm: findVm, beforeSend });
}

/**
 * The VM a tree was sent to before, started if need be, or a new one, as the tree says if it may. Only a new one has
 * furniture.
 */
async function ensureVm(
  context: EngineContext,
  { hostPath, params }: { readonly hostPath: string; readonly params: PrepareParams },
  operation: Operation,
): Promise<{ readonly vm: Vm; readonly furniture?: Furniture }> {
  const bound = findReusableVm(context.db, hostPath);
  if (bound) return { vm: await startVm(context, bound.vm.id, operation) };
  const { template: choice, bootstrap, trustTools } = params;
  const furniture = await planFurniture(
    context,
    { hostPath, choice, image: undefined, bootstrap, trustTools },
    operation,
  );
  // Until it is furnished, it goes with this operation, also when the engine dies.
  const wanted = withTemplate({ start: true, ephemeral: true }, furniture.template, {
    network: context.config().network,
    note: (sentence) => operation.note?.(sentence),
  });
  const vm = await createVm(context, wanted, operation);
  beginFurnishing(context.db, vm.id);
  return { vm, furniture };
}
