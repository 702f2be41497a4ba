import { randomUUID } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError } from '../../errors.ts';
import { findVmTemplate } from '../../state/templates.ts';
import { findVm, resolveVm, type Vm } from '../../state/vms.ts';
import { listWorkspaces, type Workspace } from '../../state/workspaces.ts';
import type { WorkspaceContext } from '../context.ts';
import { failpoint } from '../failpoints.ts';
import type { Operation } from '../operations.ts';
import type { ParsedParams, ResultOf } from '../rpc/method.ts';
import type { workspacePrepare } from '../rpc/workspace-methods.ts';
import { findFiles, findStaged } from './ask-guest.ts';
import { awaitRunningVm } from './bound-vm.ts';
import { buildUpdate, type ConflictPolicy, type Update } from './build-update.ts';
import { defaultGuestPath, parseGuestPath } from './guest-path.ts';
import { inspectTree, type InspectInput, type WorkingTree } from './inspect-tree.ts';
import { withScratch } from './scratch.ts';
import { pathText, type RawPath } from './raw-path.ts';
import { sendTree } from './send-tree.ts';
import { sendUpdate } from './send-update.ts';
import { announceSend, concludeSend } from './settle-sends.ts';
import { conflictError, findThere, type Place, type There } from './workspace-place.ts';
import { isSentWhole } from './sent-whole.ts';
import { buildShipment, type Shipment } from './shipment.ts';
import { FileChangedError } from './tar-stream.ts';

/** Gives a running VM for a working tree when the user named none: the one bound to it, started if need be, or a new one. */
export type EnsureVm = (
  hostPath: string,
  operation: Operation,
) => Promise<{ readonly vm: Vm; readonly created: boolean }>;

/** What becomes of a VM that is made for it is the business of whoever makes it. */
type PrepareParams = Omit<ParsedParams<typeof workspacePrepare>, 'template' | 'bootstrap' | 'readonly'> & {
  /** Absent: as it was sent before */
  readonly readonly?: boolean;
  /** `keep`: files that both sides changed stay as they are in the guest, instead of stopping all of it */
  readonly policy?: ConflictPolicy;
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
    const inspect = await inspector(context, params, { scratch, signal });
    const first = await inspect();
    const hostPath = first.repository.topLevel;

    const chosen = named ? { vm: named, created: false } : await ensureVm(hostPath, operation);
    const vm = await awaitRunningVm(context, chosen.vm.id, signal);
    const guestPath = chosenPath ?? templatePath(context, vm, hostPath) ?? defaultGuestPath(hostPath);

    return context.locks.workspace.run(vm.id, signal, async () => {
      const known = listWorkspaces(context.db, vm.id).find((each) => each.guestPath === guestPath);
      const isReadOnly = params.readonly ?? known?.isReadOnly ?? false;
      const asSent = (tree: Inspected): Inspected => (isReadOnly ? withoutWriting(tree) : tree);
      const workspace = { vmId: vm.id, hostPath, guestPath, isReadOnly };
      const guest = await context.guest(vm, signal);
      const place = { vm, guest, workspace, policy: policyOf(params), fullHistory: params.fullHistory };
      const sent = await sendConsistently(context, place, {
        first: asSent(first),
        inspect: async () => asSent(await inspect()),
        operation,
      });
      const { tree, shipment } = sent;
      const plan = 'plan' in shipment ? shipment.plan : undefined;
      return {
        vm: vm.name,
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
        created: chosen.created,
        update: plan && {
          removed: plan.remove.size,
          kept: [...plan.kept, ...sent.nested].map(pathText),
          conflicts: plan.conflicts.map(pathText),
        },
        warnings: [...tree.warnings],
      };
    });
  });
}

/** Where the tree itself wants to go, as it said when the VM was made for it. */
function templatePath({ db }: WorkspaceContext, vm: Vm, hostPath: string): string | undefined {
  const recorded = findVmTemplate(db, vm.id);
  return recorded?.hostPath === hostPath ? recorded.template.guestPath : undefined;
}

function policyOf({ overwrite, policy = 'stop' }: PrepareParams): ConflictPolicy {
  return overwrite ? 'overwrite' : policy;
}

type Inspected = WorkingTree & { readonly scratch: string };

/** Returns a function that reads the tree, each time into a directory of its own. */
async function inspector(
  { exec }: WorkspaceContext,
  { path, includeUntracked, include, guestBranch: branch }: PrepareParams,
  { scratch, signal }: Pick<InspectInput, 'scratch' | 'signal'>,
): Promise<() => Promise<Inspected>> {
  let count = 0;
  return async () => {
    const own = join(scratch, String(++count));
    await mkdir(own, { mode: 0o700 });
    return {
      ...(await inspectTree(exec, { path, scratch: own, includeUntracked, include, branch, signal })),
      scratch: own,
    };
  };
}

function withoutWriting<T extends WorkingTree>(tree: T): T {
  const files = tree.files.map((file) => ({ ...file, mode: file.mode & ~0o222 }));
  const submodules = tree.submodules.map((each) => ({
    ...each,
    tree: each.tree && withoutWriting(each.tree),
  }));
  return { ...tree, files, submodules };
}

interface SendInput {
  readonly first: Inspected;
  readonly inspect: () => Promise<Inspected>;
  readonly operation: Operation;
}

interface Sent {
  readonly tree: WorkingTree;
  readonly shipment: Shipment | Update;
  readonly workspace: Workspace;
  /** Repositories of the guest's own that stay */
  readonly nested: readonly RawPath[];
}

/** Sends one state of the tree. When a file changes under our hands, all of it is read again, once. */
async function sendConsistently(
  context: WorkspaceContext,
  place: Place,
  { first, inspect, operation }: SendInput,
): Promise<Sent> {
  const there = await findThere(context, place, operation);
  const send = (tree: Inspected): Promise<Sent> => {
    if (there && !isSentWhole(tree, there, place.policy)) {
      return update(context, { ...place, there }, { tree, operation });
    }
    if (there && place.policy !== 'overwrite') refuseLoss(place, there);
    const fullHistory = place.fullHistory || (there !== undefined && there.manifest.commits === undefined);
    return replace(context, { ...place, fullHistory }, { tree, operation });
  };
  try {
    return await send(first);
  } catch (error) {
    if (!(error instanceof FileChangedError)) throw error;
  }
  operation.enter('Reading working tree again');
  try {
    return await send(await inspect());
  } catch (error) {
    if (!(error instanceof FileChangedError)) throw error;
    throw new BangerError('busy', error.message, {
      hint: `Let the program that writes it finish, then: banger workspace prepare ${place.workspace.hostPath}`,
      cause: error,
    });
  }
}

/** Throws when the guest has something that is nowhere else. */
function refuseLoss(place: Place, { changes, isHeadKnown }: There): void {
  const paths = [...changes.files.map((file) => file.path), ...changes.nested.map(pathText)];
  if (paths.length > 0) throw conflictError(place, paths);
  if (!isHeadKnown) throw conflictError(place, [], 'commits');
}

interface SendOne {
  readonly tree: Inspected;
  readonly operation: Operation;
}

/** Sends all of the tree, and puts it in the place of whatever is there. */
async function replace(context: WorkspaceContext, place: Place, { tree, operation }: SendOne): Promise<Sent> {
  const token = randomUUID();
  const { guest, vm, fullHistory } = place;
  const { guestPath } = place.workspace;
  const shipment = await buildShipment(tree, tree.scratch, { fullHistory, token });
  const workspace = record(context, place, { tree, baseTree: shipment.baseTree });
  sending(operation, shipment);
  await sendTree({ guest, guestPath, vmName: vm.name }, shipment, {
    operation,
    commit: () => announceSend(context, { token, workspace }, shipment.manifest),
  });
  await failpoint('tree in place');
  await concludeSend(context, { token, workspace }, true);
  return { tree, shipment, workspace, nested: [] };
}

/** Sends what is different from what is there. */
async function update(
  context: WorkspaceContext,
  place: Place & { readonly there: There },
  { tree, operation }: SendOne,
): Promise<Sent> {
  const token = randomUUID();
  const { guest, vm, policy, fullHistory, there } = place;
  const { guestPath } = place.workspace;
  const { known, manifest, isHeadKnown } = there;
  const shipment = await buildUpdate(tree, tree.scratch, {
    manifest,
    previousHead: known.head,
    changes: there.changes.paths,
    findIgnored: (paths) =>
      policy === 'overwrite' ? Promise.resolve([]) : findFiles(there.workspace, paths),
    isHeadLost: !isHeadKnown && policy === 'overwrite',
    policy,
    fullHistory,
    token,
  });
  if ('conflicts' in shipment) throw conflictError(place, shipment.conflicts.map(pathText));
  const { nested } = there.changes;
  const buried = nested.filter((path) => isInTheWay(path, shipment.plan.write));
  if (buried.length > 0) throw conflictError(place, buried.map(pathText));
  if (shipment.movesHead && there.isUnderWay) throw conflictError(place, [], 'a merge or the like under way');
  if (shipment.movesHead && !isHeadKnown && policy !== 'overwrite') {
    throw conflictError(
      place,
      there.changes.files.map((file) => file.path),
      'commits',
    );
  }
  if (shipment.setsIndex && policy !== 'overwrite') {
    const staged = await findStaged(there.workspace, manifest, there.changes.paths);
    if (staged.length > 0) throw conflictError(place, staged.map(pathText), 'staged changes');
  }
  const workspace = record(context, place, { tree, baseTree: shipment.baseTree });
  sending(operation, shipment);
  const git = shipment.needsGit ? await there.ensureGit() : 'git';
  await sendUpdate({ guest, guestPath, vmName: vm.name, git }, shipment, {
    operation,
    commit: () => announceSend(context, { token, workspace }, shipment.manifest),
  });
  await failpoint('tree in place');
  await concludeSend(context, { token, workspace }, true);
  return { tree, shipment, workspace, nested };
}

/** Whether a directory of the guest would have to give way, or would be mixed with files of the host. */
function isInTheWay(path: RawPath, written: ReadonlySet<RawPath>): boolean {
  const isBelow = (inner: RawPath, outer: RawPath): boolean =>
    inner === outer || inner.startsWith(`${outer}/`);
  return [...written].some((file) => isBelow(path, file) || isBelow(file, path));
}

function sending(operation: Operation, { fileCount }: Shipment): void {
  operation.enter(`Sending ${fileCount} ${fileCount === 1 ? 'file' : 'files'}`);
}

/** What is to be recorded of a tree that is sent. Throws when its VM is gone meanwhile. */
function record(
  { db }: WorkspaceContext,
  { vm, workspace }: Place,
  { tree, baseTree }: { readonly tree: WorkingTree; readonly baseTree: string },
): Workspace {
  if (!findVm(db, vm.id)) {
    throw new BangerError('not_found', `VM "${vm.name}" was deleted while its workspace was being sent`);
  }
  const { head, branch } = tree.repository;
  return { ...workspace, baseTree, head, branch, preparedAt: new Date().toISOString() };
}
