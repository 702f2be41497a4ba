import type { EngineContext } from '../context.ts';
import { createVm } from '../lifecycle/create-vm.ts';
import { deleteVm } from '../lifecycle/delete-vm.ts';
import { startVm } from '../lifecycle/start-vm.ts';
import { setUp } from '../setup/set-up.ts';
import { withTemplate } from '../setup/apply-template.ts';
import { admitTemplate } from '../setup/template-consent.ts';
import { templateNews } from '../setup/template-news.ts';
import type { RecordedTemplate } from '../../state/templates.ts';
import { resolveVm, setEphemeral, type Vm } from '../../state/vms.ts';
import { uncancellable, type Operation } from '../operations.ts';
import type { ParsedParams, ResultOf } from '../rpc/method.ts';
import type { workspaceApply, workspacePrepare } from '../rpc/workspace-methods.ts';
import { applyWorkspace } from './apply-workspace.ts';
import { findReusableVm } from './bound-vm.ts';
import { prepareWorkspace } from './prepare-workspace.ts';
import { tellWorkspace } from './workspace-events.ts';

type PrepareParams = ParsedParams<typeof workspacePrepare>;

/** A VM that is made for the tree goes again when the tree does not arrive, or the VM cannot be set up. */
export async function prepareWorkspaceRoute(
  context: EngineContext,
  params: PrepareParams,
  operation: Operation,
): Promise<ResultOf<typeof workspacePrepare>> {
  let created: { readonly vm: Vm; readonly template?: RecordedTemplate } | undefined;
  try {
    const sent = await prepareWorkspace(context, params, operation, async (hostPath) => {
      const chosen = await ensureVm(context, { hostPath, params }, operation);
      if (chosen.created) created = chosen;
      return chosen;
    });
    if (created?.template) {
      const { vm, template } = created;
      await setUp(context, { vm, guestPath: sent.guestPath, recorded: template, env: {} }, operation);
    }
    if (created) setEphemeral(context.db, created.vm.id, false);
    const news = created
      ? undefined
      : await templateNews(context.db, resolveVm(context.db, sent.vm), sent.hostPath);
    if (news) operation.note?.(news);
    return sent;
  } catch (error) {
    if (created) await deleteVm(context, created.vm.id, uncancellable(operation));
    throw error;
  }
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

/** The VM a tree was sent to before, started if need be, or a new one, as the tree's template says if it may. */
async function ensureVm(
  context: EngineContext,
  { hostPath, params }: { readonly hostPath: string; readonly params: PrepareParams },
  operation: Operation,
): Promise<{ readonly vm: Vm; readonly created: boolean; readonly template?: RecordedTemplate }> {
  const bound = findReusableVm(context.db, hostPath);
  if (bound) return { vm: await startVm(context, bound.vm.id, operation), created: false };
  const choice = params.template;
  const template = choice && (await admitTemplate(context.db, hostPath, { choice, hasImage: false }));
  // Until the tree is in it and it is set up, it goes with this operation, also when the engine dies.
  const wanted = withTemplate({ start: true, ephemeral: true }, template);
  return { vm: await createVm(context, wanted, operation), created: true, template };
}
