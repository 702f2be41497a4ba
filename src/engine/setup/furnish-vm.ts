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
import { admitTools, toolsNeedConsent } from './tool-consent.ts';
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
  const template = choice && (await admitTemplate(context, hostPath, { choice, hasImage }));
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

/** A tree in a VM that is not made for it just now. */
interface SentPlace {
  readonly vm: Vm;
  readonly hostPath: string;
  readonly guestPath: string;
  /** See `planFurniture` */
  readonly trustTools?: string;
}

/** Throws before a tree is sent again, when it names tools that it may not have. */
export async function admitNewTools({ db }: EngineContext, place: SentPlace): Promise<void> {
  const { files } = (await findNewTools(db, place)) ?? {};
  if (files) admitTools(db, { hostPath: place.hostPath, files, agreed: place.trustTools });
}

/**
 * Where a tree is sent again without its tools being looked at, and names some that nobody has agreed to, or none by any
 * file that we look for: programs go without those from before, since mise would look at whatever is there to give them.
 */
export async function dropNewTools(
  { db }: EngineContext,
  place: SentPlace,
  { note }: Operation,
): Promise<void> {
  const { vm, hostPath, guestPath } = place;
  const known = listWorkspaces(db, vm.id).find((one) => one.guestPath === guestPath)?.tools;
  // Those that are in files of ours stay what they are.
  if (!known || (known.directory ?? guestPath) !== guestPath) return;
  const found = await findNewTools(db, place);
  if (!found) return;
  const { files } = found;
  if (files && !toolsNeedConsent(db, hostPath, files)) return;
  setWorkspaceTools(db, { vmId: vm.id, guestPath }, undefined);
  const why = files
    ? `"${files.first}" and what belongs to it say more than was agreed to`
    : `the files that named its tools are gone from "${hostPath}"`;
  note?.(
    `Warning: ${why}: programs in VM "${vm.name}" go without the tools. To look at it, and agree: banger workspace prepare ${hostPath}`,
  );
}

/** Installs the tools of a tree that was sent again, if it names others than before and may have them. */
export async function renewTools(
  context: EngineContext,
  place: SentPlace,
  operation: Operation,
): Promise<void> {
  const { vm, guestPath } = place;
  const found = await findNewTools(context.db, place);
  if (!found) return;
  const { files, env } = found;
  if (!files) return setWorkspaceTools(context.db, { vmId: vm.id, guestPath }, undefined);
  // They may be others than when the tree was sent.
  admitTools(context.db, { hostPath: place.hostPath, files, agreed: place.trustTools });
  await bootstrapTools(context, { vm, guestPath, files, env }, operation);
}

/** Undefined when they are the same as before, or the VM is to have none. */
async function findNewTools(
  db: EngineContext['db'],
  { vm, hostPath, guestPath }: SentPlace,
): Promise<
  { readonly files: ToolFiles | undefined; readonly env: Readonly<Record<string, string>> } | undefined
> {
  const recorded = findVmTemplate(db, vm.id);
  const template = recorded?.hostPath === hostPath ? recorded.template : undefined;
  if (template?.bootstrap === false) return undefined;
  const files = await findToolFiles(hostPath);
  const known = listWorkspaces(db, vm.id).find((one) => one.guestPath === guestPath)?.tools;
  return files?.sha256 === known?.sha256 ? undefined : { files, env: { ...template?.env } };
}
