import { randomUUID } from 'node:crypto';
import { BangerError } from '../../../errors.ts';
import { findVm } from '../../../state/vms.ts';
import type { Workspace } from '../../../state/workspaces.ts';
import type { WorkspaceContext } from '../../context.ts';
import { failpoint } from '../../failpoints.ts';
import { uncancellable, type Operation } from '../../operations.ts';
import { bringTextsFrom, type BringTexts } from '../applying/bring-texts.ts';
import { findFiles, findStaged } from '../guest-tree/ask-guest.ts';
import { guestGitSettings } from '../guest-tree/changes-script.ts';
import { canMakeBlobsIn } from './made-blobs.ts';
import { checkRoom } from './check-room.ts';
import { GuestChangedError } from './changed-since.ts';
import type { Update } from './assemble-update.ts';
import { buildUpdate, draftUpdate, type Conflicts, type Draft } from './build-update.ts';
import type { WorkingTree } from '../host-tree/inspect-tree.ts';
import { pathText, type RawPath } from '../host-tree/raw-path.ts';
import { sendTree } from './send-tree.ts';
import { sendUpdate } from './send-update.ts';
import type { MovedDirectory } from './moved-directories.ts';
import { lookAgain, noteIgnored, refuseLoss } from './outlive-swap.ts';
import { movedTo } from './moved-branches.ts';
import { GuestReferencesError } from './reference-guard.ts';
import { isSentWhole } from './sent-whole.ts';
import { announceSend, concludeSend, recordKept } from './settle-sends.ts';
import { buildShipment, type Shipment } from './shipment.ts';
import type { Snapshot } from '../host-tree/snapshot.ts';
import { findTakenCommits } from './taken-commits.ts';
import { FileChangedError } from './tar-stream.ts';
import {
  commitsError,
  conflictError,
  shown,
  undoneError,
  WouldBeLostError,
  type Place,
  type There,
} from './workspace-place.ts';
import { shellWord } from '../../../host/shell-quote.ts';

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
  let knownCommits: readonly string[] = [];
  let isWhole = false;
  for (let looks = 1; ;) {
    try {
      return await sendOnce(context, place, { tree, there: seen, knownCommits, isWhole, operation });
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
      } else if (error instanceof GuestReferencesError && ++looks <= mostLooks) {
        seen = await look();
        if (place.policy === 'overwrite') isWhole = true;
        else knownCommits = [...knownCommits, ...(await movedTo(place, tree, error))];
      } else throw error;
    }
  }
}

function isBusy(
  what: string,
  { place, cause }: { readonly place: Place; readonly cause: Error },
): BangerError {
  return new BangerError('busy', what, {
    hint: `Let the program that writes it finish, then: banger workspace prepare ${shellWord(place.workspace.hostPath)}`,
    cause,
  });
}

function sendOnce(
  context: WorkspaceContext,
  place: Place,
  { there, ...one }: SendOne & Pick<SendInput, 'there'>,
): Promise<Sent> {
  const isUpdated = there && !one.isWhole && !isSentWhole(one.tree, there, place.policy);
  if (isUpdated) return update(context, { ...place, there }, one);
  const fullHistory = place.fullHistory || (there !== undefined && there.manifest.commits === undefined);
  return replace(context, { ...place, there, fullHistory }, one);
}

interface SendOne {
  readonly tree: Inspected;
  /** See `UpdateInput` */
  readonly knownCommits: readonly string[];
  /** All of the tree, also where an update would be possible */
  readonly isWhole: boolean;
  readonly operation: Operation;
}

/**
 * Sends all of the tree, and puts it in the place of whatever is there. What git ignores in the guest stays, as with an
 * update; all else that it has of its own stops it.
 */
async function replace(
  context: WorkspaceContext,
  place: Place & Pick<SendInput, 'there'>,
  { tree, operation }: SendOne,
): Promise<Sent> {
  const token = randomUUID();
  const { guest, vm, fullHistory, there } = place;
  const { guestPath } = place.workspace;
  const canMakeBlobs = canMakeBlobsIn(guest, operation.signal);
  const options = { fullHistory, token, canMakeBlobs, snapshot: tree.snapshot };
  const shipment = await buildShipment(tree, tree.scratch, options);
  const { files } = shipment.manifest;
  const isGuarded = there !== undefined && place.policy !== 'overwrite';
  const refuse = (seen: There): Promise<void> =>
    refuseLoss(place, seen, { tree, files, bring: bringing(seen, tree, operation) });
  if (isGuarded) await refuse(there);
  const workspace = record(context, place, { tree, baseTree: shipment.baseTree });
  await checkRoom({ guest, guestPath, vmName: vm.name }, shipment, { copies: 1, signal: operation.signal });
  sending(operation, shipment);
  await sendTree({ guest, guestPath, vmName: vm.name }, shipment, {
    operation,
    guard: isGuarded ? [await there.ensureGit(), ...guestGitSettings] : [],
    commit: async () => {
      if (isGuarded) await refuse(await lookAgain(there));
      if (there) await noteIgnored(there.workspace, there.manifest);
      await announceSend(context, { token, workspace }, shipment);
    },
  });
  await failpoint('tree in place');
  await concludeSend(context, { token, workspace }, true);
  return { tree, shipment, workspace, nested: [] };
}

function bringing(
  { workspace }: There,
  { repository, scratch, snapshot: { env } }: Inspected,
  operation: Operation,
): BringTexts {
  return bringTextsFrom(workspace, { repository, scratch, env }, operation);
}

/** Sends what is different from what is there. */
async function update(
  context: WorkspaceContext,
  place: Place & { readonly there: There },
  { tree, knownCommits, operation }: SendOne,
): Promise<Sent> {
  const token = randomUUID();
  const { guest, vm, policy, fullHistory, there } = place;
  const { guestPath } = place.workspace;
  const { known, manifest, isHeadKnown } = there;
  const canMakeBlobs = canMakeBlobsIn(guest, operation.signal);
  const drafted = { manifest, previousHead: known.head, fullHistory, canMakeBlobs, snapshot: tree.snapshot };
  const shipment = await buildUpdate(tree, tree.scratch, {
    draft: tree.draft?.manifest === manifest ? tree.draft : await draftUpdate(tree, tree.scratch, drafted),
    changes: there.changes,
    applied: there.applied,
    bring: bringing(there, tree, operation),
    findIgnored: (paths) =>
      policy === 'overwrite' ? Promise.resolve([]) : findFiles(there.workspace, paths),
    isHeadLost: !isHeadKnown && policy === 'overwrite',
    findTaken: isHeadKnown || policy === 'overwrite' ? undefined : (here) => findTakenCommits(there, here),
    policy,
    knownCommits,
    token,
  });
  if ('conflicts' in shipment) throw stopped(place, shipment);
  const { nested } = there.changes;
  const buried = nested.filter((path) => isInTheWay(path, shipment.plan.write));
  if (buried.length > 0) throw conflictError(place, buried.map(pathText));
  if (shipment.movesHead && there.isUnderWay) throw conflictError(place, [], 'a merge or the like under way');
  if (shipment.movesHead && !isHeadKnown && !shipment.left && policy !== 'overwrite')
    throw commitsError(place);
  if (shipment.setsIndex && policy !== 'overwrite') {
    const staged = await findStaged({ ...there, committed: shipment.left?.files }, there.workspace);
    if (staged.length > 0) throw conflictError(place, staged.map(pathText), 'staged changes');
  }
  const workspace = record(context, place, { tree, baseTree: shipment.baseTree });
  // Files arrive in an archive beside the tree.
  await checkRoom({ guest, guestPath, vmName: vm.name }, shipment, { copies: 2, signal: operation.signal });
  sending(operation, shipment);
  const git = shipment.needsGit ? await there.ensureGit() : 'git';
  const kept = await sendUpdate({ guest, guestPath, vmName: vm.name, git }, shipment, {
    operation,
    wasQuiet: isQuiet(there),
    commit: () => announceSend(context, { token, workspace }, shipment),
  });
  await failpoint('tree in place');
  const { ensureGit } = there;
  const begun = { guest, vmName: vm.name, ensureGit, signal: uncancellable(operation).signal };
  const send = await recordKept(context, { ...begun, send: { token, workspace } }, kept);
  await concludeSend(context, send, true);
  const plan = { ...shipment.plan, kept: [...shipment.plan.kept, ...kept] };
  return { tree, shipment: { ...shipment, plan }, workspace: send.workspace, nested };
}

function isQuiet({ changes, isHeadKnown, isUnderWay }: There): boolean {
  return changes.paths.length === 0 && changes.nested.length === 0 && isHeadKnown && !isUnderWay;
}

/** What would be lost comes first: what is only in the wrong place can be told when that is settled. */
function stopped(place: Place, { conflicts, misplaced, marked, undone }: Conflicts): BangerError {
  const lost = conflicts.filter((path) => !misplaced.has(path));
  if (lost.length > 0 && lost.every((path) => marked.has(path))) return unresolved(place, lost);
  if (lost.length > 0) {
    const all = lost.map(pathText);
    return lost.every((path) => undone.has(path)) ? undoneError(place, all) : conflictError(place, all);
  }
  const { vm, workspace } = place;
  const [{ from, to }] = [...misplaced.values()] as [MovedDirectory];
  const paths = shown([...misplaced.keys()].map(pathText));
  return new WouldBeLostError(
    'invalid_state',
    `VM "${vm.name}" renamed "${pathText(from)}" to "${pathText(to)}", and new in it here: ${paths}`,
    {
      hint: `Take the new name over first: banger workspace apply ${shellWord(workspace.hostPath)} --vm ${vm.name} --guest-path ${shellWord(workspace.guestPath)}; or undo it there with --overwrite`,
    },
  );
}

/** What the VM has of such a file is in it, but between markers. */
function unresolved({ workspace: { hostPath } }: Place, paths: readonly RawPath[]): BangerError {
  return new WouldBeLostError(
    'invalid_state',
    `"${hostPath}" has conflict markers that nobody has resolved: ${shown(paths.map(pathText))}`,
    {
      hint: `Find them with: git -C ${shellWord(hostPath)} diff --check; or send them as they are with --overwrite`,
    },
  );
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
