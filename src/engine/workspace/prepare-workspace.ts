import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { shellQuote } from '../../host/shell-quote.ts';
import { findVmTemplate } from '../../state/templates.ts';
import { formatBytes } from '../../state/units.ts';
import { resolveVm, type Vm } from '../../state/vms.ts';
import { listWorkspaces } from '../../state/workspaces.ts';
import type { WorkspaceContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import type { ParsedParams, ResultOf } from '../rpc/method.ts';
import type { workspacePrepare } from '../rpc/workspace-methods.ts';
import { awaitRunningVm, findReusableVm } from './bound-vm.ts';
import { draftUpdate, type ConflictPolicy } from './sending/build-update.ts';
import { defaultGuestPath, parseGuestPath } from './guest-path.ts';
import { promisorRemote } from './host-tree/git-config.ts';
import { inspectTree, type WorkingTree } from './host-tree/inspect-tree.ts';
import { canMakeBlobsIn } from './sending/made-blobs.ts';
import { readManifest } from './sending/manifest.ts';
import { pathText } from './host-tree/raw-path.ts';
import { withScratch } from './scratch.ts';
import { sendConsistently, type Inspected, type SendInput, type Sent } from './sending/send-workspace.ts';
import { isSendUnsettled, manifestPlace } from './sending/settle-sends.ts';
import { sideBySide } from './side-by-side.ts';
import { keptReference } from './sending/taken-commits.ts';
import { takeSnapshot } from './host-tree/snapshot.ts';
import { findThere, type Place } from './sending/workspace-place.ts';

/** Gives a running VM for a working tree when the user named none: the one bound to it, started if need be, or a new one. */
export type EnsureVm = (
  hostPath: string,
  operation: Operation,
) => Promise<{ readonly vm: Vm; readonly created: boolean }>;

/** What becomes of a VM that is made for it is the business of whoever makes it. */
type PrepareParams = Omit<
  ParsedParams<typeof workspacePrepare>,
  'template' | 'bootstrap' | 'trustTools' | 'readonly'
> & {
  /** Absent: as it was sent before */
  readonly readonly?: boolean;
  /** `keep`: files that both sides changed stay as they are in the guest, instead of stopping all of it */
  readonly policy?: ConflictPolicy;
  /** What `include` names was there once, and is sent as gone when it is */
  readonly mayBeGone?: boolean;
};

/**
 * Sends a working tree into a VM and records what was sent.
 *
 * What cannot be sent is refused before a VM is made for it. Changes that somebody made in the guest are not
 * replaced unless `overwrite` says so.
 */
export async function prepareWorkspace(
  context: WorkspaceContext,
  params: PrepareParams,
  operation: Operation,
  ensureVm: EnsureVm,
): Promise<ResultOf<typeof workspacePrepare>> {
  const { signal } = operation;
  const chosenPath = params.guestPath === undefined ? undefined : parseGuestPath(params.guestPath);
  const named = params.vm === undefined ? undefined : resolveVm(context.db, params.vm);
  return withScratch(context.layout, async (scratch) => {
    operation.enter('Reading working tree');
    const inspect = inspector(context, params, { scratch, operation });
    const again = findKnownPlace(context, params, { named, chosenPath });
    if (again) {
      const sent = await prepareAgain(context, params, { ...again, inspect, operation });
      if (sent) return sent;
    }
    const first = await inspect(signal);
    const hostPath = first.repository.topLevel;
    const chosen = named ? { vm: named, created: false } : await ensureVm(hostPath, operation);
    const vm = await awaitRunningVm(context, chosen.vm.id, signal);
    const guestPath = guestPathOf(context, { vm, hostPath, chosen: chosenPath });
    return inPlace(context, params, { vm, hostPath, guestPath, operation }, async (place) => {
      const there = await findThere(context, place, operation);
      return send(context, place, { first, there, inspect, operation, created: chosen.created });
    });
  });
}

interface KnownPlace {
  readonly vm: Vm;
  readonly hostPath: string;
  readonly guestPath: string;
}

/** Where the tree was sent before, if it is the one that the path is recorded for, and to a VM that runs. */
function findKnownPlace(
  context: WorkspaceContext,
  { path }: PrepareParams,
  { named, chosenPath }: { readonly named?: Vm; readonly chosenPath?: string },
): KnownPlace | undefined {
  const vm = named ?? findReusableVm(context.db, path)?.vm;
  if (vm?.state !== 'running') return undefined;
  const guestPath = guestPathOf(context, { vm, hostPath: path, chosen: chosenPath });
  const known = listWorkspaces(context.db, vm.id).find((each) => each.guestPath === guestPath);
  const isKnown = known?.hostPath === path && !isSendUnsettled(context.db, vm.id, guestPath);
  return isKnown ? { vm, hostPath: path, guestPath } : undefined;
}

/** Host and guest are read at the same time. Undefined when the path belongs to another tree now. */
async function prepareAgain(
  context: WorkspaceContext,
  params: PrepareParams,
  { inspect, operation, ...known }: KnownPlace & { readonly inspect: Inspect; readonly operation: Operation },
): Promise<ResultOf<typeof workspacePrepare> | undefined> {
  const vm = await awaitRunningVm(context, known.vm.id, operation.signal);
  return inPlace(context, params, { ...known, vm, operation }, async (place) => {
    const sent = listWorkspaces(context.db, vm.id).find((each) => each.guestPath === known.guestPath);
    const manifest = sent && (await readManifest(manifestPlace(context.layout, sent), sent));
    const read = async (signal: AbortSignal): Promise<Inspected> => {
      const tree = await inspect(signal);
      const isPartial = promisorRemote(tree.repository.config) !== undefined;
      if (!manifest || isPartial || tree.submodules.length > 0) return tree;
      const { snapshot, scratch } = tree;
      const { fullHistory, guest } = place;
      const canMakeBlobs = canMakeBlobsIn(guest, signal);
      const input = { manifest, previousHead: sent.head, fullHistory, canMakeBlobs, snapshot };
      return { ...tree, draft: await draftUpdate(tree, scratch, input) };
    };
    const [first, there] = await sideBySide(operation.signal, read, (signal) =>
      findThere(context, place, operation, { signal, manifest }),
    );
    if (first.repository.topLevel !== known.hostPath) return undefined;
    return send(context, place, { first, there, inspect, operation, created: false });
  });
}

/** Runs a task while nobody else sends anything to the VM, or reads what was sent. */
function inPlace<T>(
  context: WorkspaceContext,
  params: PrepareParams,
  { vm, hostPath, guestPath, operation }: KnownPlace & { readonly operation: Operation },
  task: (place: Place) => Promise<T>,
): Promise<T> {
  const { signal } = operation;
  return context.locks.workspace.run(vm.id, signal, async () => {
    const known = listWorkspaces(context.db, vm.id).find((each) => each.guestPath === guestPath);
    const isReadOnly = params.readonly ?? known?.isReadOnly ?? false;
    const workspace = { vmId: vm.id, hostPath, guestPath, isReadOnly };
    const guest = await context.guest(vm, signal);
    return task({ vm, guest, workspace, policy: policyOf(params), fullHistory: params.fullHistory });
  });
}

async function send(
  context: WorkspaceContext,
  place: Place,
  {
    first,
    inspect,
    created,
    ...input
  }: Pick<SendInput, 'first' | 'there' | 'operation'> & {
    readonly inspect: Inspect;
    readonly created: boolean;
  },
): Promise<ResultOf<typeof workspacePrepare>> {
  const { isReadOnly, hostPath, guestPath } = place.workspace;
  const { signal } = input.operation;
  const asSent = (tree: Inspected): Inspected => (isReadOnly ? withoutWriting(tree) : tree);
  const sent = await sendConsistently(context, place, {
    ...input,
    first: asSent(first),
    inspect: async () => asSent(await inspect(signal)),
    look: () => findThere(context, place, input.operation),
  });
  const { tree, shipment } = sent;
  const plan = 'plan' in shipment ? shipment.plan : undefined;
  return {
    vm: place.vm.name,
    hostPath,
    guestPath,
    head: sent.workspace.head,
    branch: sent.workspace.branch,
    preparedAt: sent.workspace.preparedAt,
    files: shipment.fileCount,
    bytes: shipment.totalBytes,
    untracked: tree.untracked,
    ignored: tree.ignored,
    leftBehind: { ...tree.leftBehind },
    created,
    update: plan && {
      removed: plan.remove.size,
      kept: [...plan.kept, ...sent.nested].map(pathText),
      conflicts: plan.conflicts.map(pathText),
    },
    warnings: [...tree.warnings, ...leftWarnings(place, shipment)],
  };
}

/** Nobody looks for commits that their branch has left. */
function leftWarnings({ vm, workspace: { guestPath } }: Place, shipment: Sent['shipment']): string[] {
  if (!('left' in shipment) || !shipment.left) return [];
  const reference = keptReference(shipment.left);
  const log = shellQuote(['git', '-C', guestPath, 'log', reference]);
  return [
    `What was committed in VM "${vm.name}" is in the tree here, and its branch is where it is here now. Its commits are kept there as ${reference}: banger vm exec ${vm.name} -- ${log}`,
  ];
}

/** Where a tree goes in a VM: the place that was chosen, or the one that the tree named when the VM was made for it. */
export function guestPathOf(
  { db }: Pick<WorkspaceContext, 'db'>,
  { vm, hostPath, chosen }: { readonly vm: Vm; readonly hostPath: string; readonly chosen?: string },
): string {
  if (chosen !== undefined) return parseGuestPath(chosen);
  const recorded = findVmTemplate(db, vm.id);
  const own = recorded?.hostPath === hostPath ? recorded.template.guestPath : undefined;
  return own ?? defaultGuestPath(hostPath);
}

function policyOf({ overwrite, policy = 'stop' }: PrepareParams): ConflictPolicy {
  return overwrite ? 'overwrite' : policy;
}

type Inspect = (signal: AbortSignal) => Promise<Inspected>;

/** Returns a function that reads the tree, each time into a directory of its own. */
function inspector(
  { exec }: WorkspaceContext,
  { path, includeUntracked, include, mayBeGone, guestBranch: branch }: PrepareParams,
  { scratch, operation }: { readonly scratch: string; readonly operation: Operation },
): Inspect {
  let count = 0;
  return async (signal) => {
    const own = join(scratch, String(++count));
    await mkdir(own, { mode: 0o700 });
    const input = { path, scratch: own, includeUntracked, include, mayBeGone, branch, signal };
    const tree = await inspectTree(exec, input);
    tellMuchToRead(tree, operation);
    return { ...tree, scratch: own, snapshot: await takeSnapshot(tree, own) };
  };
}

const muchBytes = 64 * 1024 * 1024;

/** Git reads and packs all that is new to it, which of a large file takes minutes and looks like nothing. */
function tellMuchToRead({ files, unsure }: WorkingTree, operation: Operation): void {
  const bytes = files.reduce((sum, { path, sizeBytes }) => sum + (unsure.has(path) ? sizeBytes : 0), 0);
  if (bytes >= muchBytes) operation.progress({ detail: `${formatBytes(bytes)} that git does not have yet` });
}

function withoutWriting<T extends WorkingTree>(tree: T): T {
  const files = tree.files.map((file) => ({ ...file, mode: file.mode & ~0o222 }));
  const submodules = tree.submodules.map((each) => ({
    ...each,
    tree: each.tree && withoutWriting(each.tree),
  }));
  return { ...tree, files, submodules };
}
