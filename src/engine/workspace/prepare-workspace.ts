import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError } from '../../errors.ts';
import { findVmTemplate } from '../../state/templates.ts';
import { findVm, resolveVm, type Vm } from '../../state/vms.ts';
import { listWorkspaces, saveWorkspace, type Workspace } from '../../state/workspaces.ts';
import type { WorkspaceContext } from '../context.ts';
import { failpoint } from '../failpoints.ts';
import type { Guest } from '../guest.ts';
import type { Operation } from '../operations.ts';
import type { ParsedParams, ResultOf } from '../rpc/method.ts';
import type { workspacePrepare } from '../rpc/workspace-methods.ts';
import { awaitRunningVm } from './bound-vm.ts';
import { readChanges, type GuestChanges } from './guest-changes.ts';
import { ensureGuestGit } from './guest-git.ts';
import { defaultGuestPath, parseGuestPath } from './guest-path.ts';
import { inspectTree, type InspectInput, type WorkingTree } from './inspect-tree.ts';
import { pathText } from './raw-path.ts';
import { withScratch } from './scratch.ts';
import { isOccupied, sendTree } from './send-tree.ts';
import { buildShipment, type Shipment } from './shipment.ts';
import { FileChangedError } from './tar-stream.ts';

/** Gives a running VM for a working tree when the user named none: the one bound to it, started if need be, or a new one. */
export type EnsureVm = (
  hostPath: string,
  operation: Operation,
) => Promise<{ readonly vm: Vm; readonly created: boolean }>;

/** What becomes of a VM that is made for it is the business of whoever makes it. */
type PrepareParams = Omit<ParsedParams<typeof workspacePrepare>, 'template' | 'bootstrap'>;

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
  return withScratch(async (scratch) => {
    operation.enter('Reading working tree');
    const inspect = await inspector(context, params, { scratch, signal });
    const first = await inspect();
    const hostPath = first.repository.topLevel;

    const chosen = named ? { vm: named, created: false } : await ensureVm(hostPath, operation);
    const vm = await awaitRunningVm(context, chosen.vm.id, signal);
    const guestPath = chosenPath ?? templatePath(context, vm, hostPath) ?? defaultGuestPath(hostPath);
    const workspace = { vmId: vm.id, hostPath, guestPath };

    return context.locks.workspace.run(vm.id, signal, async () => {
      const guest = await context.guest(vm, signal);
      const place = { vm, guest, workspace, overwrite: params.overwrite };
      await checkPlace(context, place, { inspect, signal });
      const { tree, shipment } = await sendConsistently(place, { first, inspect, operation });
      const preparedAt = new Date().toISOString();
      const { head, branch } = tree.repository;
      await failpoint('tree in place');
      record(context, vm, { ...workspace, baseTree: shipment.baseTree, head, branch, preparedAt });
      return {
        vm: vm.name,
        hostPath,
        guestPath,
        head,
        branch,
        preparedAt,
        files: shipment.fileCount,
        bytes: shipment.totalBytes,
        untracked: tree.untracked,
        ignored: tree.ignored,
        created: chosen.created,
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

type Inspected = WorkingTree & { readonly scratch: string };

/** Returns a function that reads the tree, each time into a directory of its own. */
async function inspector(
  { exec }: WorkspaceContext,
  { path, includeUntracked, include }: PrepareParams,
  { scratch, signal }: Pick<InspectInput, 'scratch' | 'signal'>,
): Promise<() => Promise<Inspected>> {
  let count = 0;
  return async () => {
    const own = join(scratch, String(++count));
    await mkdir(own, { mode: 0o700 });
    return {
      ...(await inspectTree(exec, { path, scratch: own, includeUntracked, include, signal })),
      scratch: own,
    };
  };
}

interface Place {
  readonly vm: Vm;
  readonly guest: Guest;
  readonly workspace: Pick<Workspace, 'vmId' | 'hostPath' | 'guestPath'>;
  readonly overwrite: boolean;
}

/** Refuses a place whose content is not ours to replace. */
async function checkPlace(
  context: WorkspaceContext,
  place: Place,
  { inspect, signal }: { readonly inspect: () => Promise<Inspected>; readonly signal: AbortSignal },
): Promise<void> {
  const { vm, guest, overwrite } = place;
  const { hostPath, guestPath } = place.workspace;
  const known = listWorkspaces(context.db, vm.id).find((each) => each.guestPath === guestPath);
  if (known && known.hostPath !== hostPath) {
    throw new BangerError('already_exists', `"${guestPath}" in VM "${vm.name}" holds "${known.hostPath}"`, {
      hint: `Choose another place: banger workspace prepare ${hostPath} --vm ${vm.name} --guest-path ${guestPath}-2`,
    });
  }
  // Also puts back what an interrupted `prepare` moved away, so it comes first even when all may be replaced.
  const occupied = await isOccupied({ guest, guestPath, vmName: vm.name }, signal);
  if (!occupied || overwrite) return;
  if (!known) {
    throw new BangerError(
      'already_exists',
      `"${guestPath}" in VM "${vm.name}" is not empty and not a workspace`,
      {
        hint: `Choose another place with --guest-path, or replace it: banger workspace prepare ${hostPath} --vm ${vm.name} --guest-path ${guestPath} --overwrite`,
      },
    );
  }
  const ensureGit = (): Promise<string> =>
    ensureGuestGit({ assets: context.assets, guest, vmName: vm.name, signal });
  const there = { guest, ensureGit, ...known, vmName: vm.name, signal };
  const compared = await readChanges(there).catch((error: unknown) => ({ error }));
  if (!('error' in compared) && isEmpty(compared)) return;
  // An engine that died, or could not write it down, just after it had sent a tree: what is there is what is to be sent.
  const wanted = await inspect();
  const { baseTree } = await buildShipment(wanted, wanted.scratch);
  const asWanted = await readChanges(there, { base: baseTree }).catch(() => undefined);
  if (asWanted && isEmpty(asWanted)) return;
  if ('error' in compared) throw compared.error;
  const paths = [...compared.files.map((file) => file.path), ...compared.nested.map(pathText)];
  const shown = paths.slice(0, 10).map((path) => JSON.stringify(path));
  const more = paths.length > shown.length ? ` and ${paths.length - shown.length} more` : '';
  throw new BangerError(
    'invalid_state',
    `"${guestPath}" in VM "${vm.name}" has changes that would be lost: ${shown.join(', ')}${more}`,
    {
      hint: `Give --overwrite, or save them first: banger workspace export ${hostPath} --vm ${vm.name} -o changes.patch`,
    },
  );
}

function isEmpty({ files, nested }: GuestChanges): boolean {
  return files.length === 0 && nested.length === 0;
}

interface SendInput {
  readonly first: Inspected;
  readonly inspect: () => Promise<Inspected>;
  readonly operation: Operation;
}

/** Sends one state of the tree. When a file changes under our hands, all of it is read again, once. */
async function sendConsistently(
  { vm, guest, workspace }: Place,
  { first, inspect, operation }: SendInput,
): Promise<{ tree: WorkingTree; shipment: Shipment }> {
  const send = async (tree: Inspected): Promise<{ tree: WorkingTree; shipment: Shipment }> => {
    const shipment = await buildShipment(tree, tree.scratch);
    operation.enter(`Sending ${shipment.fileCount} ${shipment.fileCount === 1 ? 'file' : 'files'}`);
    await sendTree({ guest, guestPath: workspace.guestPath, vmName: vm.name }, shipment, operation);
    return { tree, shipment };
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
      hint: `Let the program that writes it finish, then: banger workspace prepare ${workspace.hostPath}`,
      cause: error,
    });
  }
}

function record(context: WorkspaceContext, vm: Vm, workspace: Workspace): void {
  if (!findVm(context.db, vm.id)) {
    throw new BangerError('not_found', `VM "${vm.name}" was deleted while its workspace was being sent`);
  }
  saveWorkspace(context.db, workspace);
}
