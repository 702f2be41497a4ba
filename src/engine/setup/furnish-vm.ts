import { endFurnishing } from '../../state/furnishing.ts';
import { findVmTemplate, type RecordedTemplate } from '../../state/templates.ts';
import type { Vm } from '../../state/vms.ts';
import { listWorkspaces, setWorkspaceTools } from '../../state/workspaces.ts';
import type { EngineContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import { bootstrapTools, planTools } from './bootstrap-tools.ts';
import { plannedReach } from './mise-source.ts';
import { setUp } from './set-up.ts';
import { admitTemplate, type TemplateChoice } from './template-consent.ts';
import { admitTools } from './tool-consent.ts';
import { findToolFiles, type ToolFiles } from './tool-files.ts';

/** What a new VM gets besides the tree, because the tree says so. */
export interface Furniture {
  readonly template?: RecordedTemplate;
  readonly tools?: ToolFiles;
}

/** Decides what a VM for this tree will get. Throws, while nothing is made yet, when it may not have it or cannot. */
export async function planFurniture(
  context: EngineContext,
  tree: {
    readonly hostPath: string;
    readonly choice: TemplateChoice | undefined;
    readonly image: string | undefined;
    readonly bootstrap: boolean;
    /** Hash of what the tools' files say, if the user agrees to that now */
    readonly trustTools?: string;
    /** As for the VM itself */
    readonly network?: string;
    readonly egress?: readonly string[];
  },
  operation: Operation,
): Promise<Furniture> {
  const { hostPath, choice, image } = tree;
  const hasImage = image !== undefined;
  const template = choice && (await admitTemplate(context.db, hostPath, { choice, hasImage }));
  if (!tree.bootstrap || template?.template.bootstrap === false) return { template };
  const reach = plannedReach(context, tree);
  const chosen = { hostPath, image: image ?? template?.template.image, reach };
  const tools = await planTools(context, chosen, operation);
  if (tools) admitTools(context.db, { hostPath, files: tools, agreed: tree.trustTools });
  return { template, tools };
}

/**
 * Gives it to a VM that has the tree: tools first, since setup may want them. Until then the VM is one that is being
 * furnished, which is removed when the engine dies.
 */
export async function furnishVm(
  context: EngineContext,
  place: {
    readonly vm: Vm;
    readonly guestPath: string;
    readonly furniture: Furniture;
    readonly env: Readonly<Record<string, string>>;
  },
  operation: Operation,
): Promise<void> {
  const { template, tools } = place.furniture;
  const env = { ...template?.template.env, ...place.env };
  if (tools) await bootstrapTools(context, { ...place, files: tools, env }, operation);
  if (template) await setUp(context, { ...place, template: template.template, env }, operation);
  endFurnishing(context.db, place.vm.id);
}

/** Installs the tools of a tree that was sent again, if it names others than before and may have them. */
export async function renewTools(
  context: EngineContext,
  {
    vm,
    hostPath,
    guestPath,
    trustTools: agreed,
  }: {
    readonly vm: Vm;
    readonly hostPath: string;
    readonly guestPath: string;
    readonly trustTools?: string;
  },
  operation: Operation,
): Promise<void> {
  const recorded = findVmTemplate(context.db, vm.id);
  const template = recorded?.hostPath === hostPath ? recorded.template : undefined;
  if (template?.bootstrap === false) return;
  const files = await findToolFiles(hostPath);
  const known = listWorkspaces(context.db, vm.id).find((one) => one.guestPath === guestPath)?.tools;
  if (files?.sha256 === known?.sha256) return;
  if (files) admitTools(context.db, { hostPath, files, agreed });
  if (files) await bootstrapTools(context, { vm, guestPath, files, env: { ...template?.env } }, operation);
  else setWorkspaceTools(context.db, { vmId: vm.id, guestPath }, undefined);
}
