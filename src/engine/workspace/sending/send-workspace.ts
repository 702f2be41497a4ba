import { randomUUID } from 'node:crypto';
import { BangerError } from '../../../errors.ts';
import { findVm } from '../../../state/vms.ts';
import type { Workspace } from '../../../state/workspaces.ts';
import type { WorkspaceContext } from '../../context.ts';
import { failpoint } from '../../failpoints.ts';
import type { Operation } from '../../operations.ts';
import { findFiles, findStaged } from '../guest-tree/ask-guest.ts';
import { buildUpdate, draftUpdate, type Draft, type Update } from './build-update.ts';
import type { WorkingTree } from '../host-tree/inspect-tree.ts';
import { pathText, type RawPath } from '../host-tree/raw-path.ts';
import { sendTree } from './send-tree.ts';
import { GuestChangedError, sendUpdate } from './send-update.ts';
import { isSentWhole } from './sent-whole.ts';
import { announceSend, concludeSend } from './settle-sends.ts';
import { buildShipment, type Shipment } from './shipment.ts';
import type { Snapshot } from '../host-tree/snapshot.ts';
import { FileChangedError } from './tar-stream.ts';
import { conflictError, shown, type Place, type There } from './workspace-place.ts';

/** A tree, and where in the scratch directory what is made of it goes. */
export interface Inspected extends WorkingTree {
  readonly scratch: string;
  readonly snapshot: Snapshot;
  /** Begun for the place's manifest */
  readonly draft?: Draft;
}

export interface SendInput {
  readonly first: Inspected;
  /** What is in the place; undefined when all of the tree has to be sent */
  readonly there: There | undefined;
  readonly inspect: () => Promise<Inspected>;
  /** Looks at the place again */
  readonly look: () => Promise<There | undefined>;
  readonly operation: Operation;
}

export interface Sent {
  readonly tree: WorkingTree;
  readonly shipment: Shipment | Update;
  readonly workspace: Workspace;
  /** Repositories of the guest's own that stay */
  readonly nested: readonly RawPath[];
}

const mostLooks = 3;

/**
 * Sends one state of the tree to one state of the guest. When a file changes under our hands, all of the tree is read
 * again, once; when somebody in the guest changes what would be replaced, that is looked at again.
 */
export async function sendConsistently(
  context: WorkspaceContext,
  place: Place,
  { first, there, inspect, look, operation }: SendInput,
): Promise<Sent> {
  let tree = first;
  let seen = there;
  let isReadAgain = false;
  for (let looks = 1; ;) {
    try {
      return await sendOnce(context, place, { tree, there: seen, operation });
    } catch (error) {
      if (error instanceof FileChangedError) {
        if (isReadAgain) throw isBusy(error.message, { place, cause: error });
        isReadAgain = true;
        operation.enter('Reading working tree again');
        tree = await inspect();
      } else if (error instanceof GuestChangedError) {
        if (++looks > mostLooks) {
          const { vm, workspace } = place;
          const what = `"${workspace.guestPath}" in VM "${vm.name}" keeps changing: ${shown(error.paths)}; nothing was replaced there`;
          throw isBusy(what, { place, cause: error });
        }
        seen = await look();
      } else throw error;
    }
  }
}

function isBusy(
  what: string,
  { place, cause }: { readonly place: Place; readonly cause: Error },
): BangerError {
  return new BangerError('busy', what, {
    hint: `Let the program that writes it finish, then: banger workspace prepare ${place.workspace.hostPath}`,
    cause,
  });
}

function sendOnce(
  context: WorkspaceContext,
  place: Place,
  { there, ...one }: SendOne & Pick<SendInput, 'there'>,
): Promise<Sent> {
  if (there && !isSentWhole(one.tree, there, place.policy)) return update(context, { ...place, there }, one);
  if (there && place.policy !== 'overwrite') refuseLoss(place, there);
  const fullHistory = place.fullHistory || (there !== undefined && there.manifest.commits === undefined);
  return replace(context, { ...place, fullHistory }, one);
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
  const shipment = await buildShipment(tree, tree.scratch, { fullHistory, token, snapshot: tree.snapshot });
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
  const drafted = { manifest, previousHead: known.head, fullHistory, snapshot: tree.snapshot };
  const shipment = await buildUpdate(tree, tree.scratch, {
    draft: tree.draft?.manifest === manifest ? tree.draft : await draftUpdate(tree, tree.scratch, drafted),
    changes: there.changes.paths,
    findIgnored: (paths) =>
      policy === 'overwrite' ? Promise.resolve([]) : findFiles(there.workspace, paths),
    isHeadLost: !isHeadKnown && policy === 'overwrite',
    policy,
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
