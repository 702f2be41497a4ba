import { errorText } from '../../../errors.ts';
import type { Database } from '../../../state/database.ts';
import { vmPaths } from '../../../state/layout.ts';
import type { Vm } from '../../../state/vms.ts';
import {
  beginSend,
  endSend,
  listSends,
  listWorkspaces,
  type WorkspaceSend,
} from '../../../state/workspaces.ts';
import type { WorkspaceContext } from '../../context.ts';
import type { Guest } from '../../guest.ts';
import { ensureGuestGit } from '../guest-tree/guest-git.ts';
import { keepApplied, type AppliedRecord } from '../applying/applied-record.ts';
import { writeManifest, type Manifest } from './manifest.ts';
import { forgetRecords, type ManifestPlace } from './record-files.ts';
import { pathText, type RawPath } from '../host-tree/raw-path.ts';
import { keepBefore, type SentUpdate } from './keep-before.ts';
import { isUnfinished } from './send-tree.ts';
import { finishUpdate } from './send-update.ts';

type SettleContext = Pick<WorkspaceContext, 'layout' | 'db' | 'log' | 'assets'>;

/** Records that a tree is about to be put in place, so that whoever comes next can find out whether it was. */
export async function announceSend(
  { db, layout }: Pick<SettleContext, 'db' | 'layout'>,
  send: WorkspaceSend,
  { manifest, applied }: { readonly manifest: Manifest; readonly applied?: AppliedRecord },
): Promise<void> {
  const place = manifestPlace(layout, send.workspace);
  await keepApplied(place, send.token, applied);
  await writeManifest(place, send.token, manifest);
  beginSend(db, send);
}

/** Records that it is. */
export async function concludeSend(
  { db, layout }: Pick<SettleContext, 'db' | 'layout'>,
  send: WorkspaceSend,
  isInPlace: boolean,
): Promise<void> {
  endSend(db, send, isInPlace);
  const { vmId, guestPath } = send.workspace;
  const known = listWorkspaces(db, vmId).find((each) => each.guestPath === guestPath);
  await forgetRecords(manifestPlace(layout, send.workspace), known?.token);
}

/** Records of what an update left as it was that it did; see `keepBefore`. */
export function recordKept(
  { db, layout }: Pick<SettleContext, 'db' | 'layout'>,
  sent: Omit<SentUpdate, 'known' | 'recorded'>,
  kept: readonly RawPath[],
): Promise<WorkspaceSend> {
  const { vmId, guestPath } = sent.send.workspace;
  const known = listWorkspaces(db, vmId).find((each) => each.guestPath === guestPath);
  return keepBefore({ ...sent, known, recorded: manifestPlace(layout, sent.send.workspace) }, kept);
}

export function manifestPlace(
  layout: WorkspaceContext['layout'],
  { vmId, guestPath }: { readonly vmId: string; readonly guestPath: string },
): ManifestPlace {
  return { directory: vmPaths(layout, vmId).manifests, guestPath };
}

/**
 * Finishes what an interrupted sending to a place in a running VM left: an update that was begun is carried out, and
 * what is in place is recorded. The caller holds the lock of the VM's workspaces.
 */
export async function settleSend(
  context: SettleContext,
  { vm, guest, guestPath }: { readonly vm: Vm; readonly guest: Guest; readonly guestPath: string },
  signal: AbortSignal,
): Promise<void> {
  const send = listSends(context.db, vm.id).find(({ workspace }) => workspace.guestPath === guestPath);
  if (!send) return;
  let git: Promise<string> | undefined;
  const ensureGit = (): Promise<string> =>
    (git ??= ensureGuestGit({ assets: context.assets, guest, vmName: vm.name, signal }));
  const place = { guest, guestPath, vmName: vm.name };
  // Git comes with the next boot only when somebody asks for it.
  const program = (await isUnfinished(place, signal)) ? await ensureGit() : 'git';
  const { token, kept } = await finishUpdate({ ...place, git: program }, signal);
  const isInPlace = token === send.token;
  const settled = isInPlace ? await recordKept(context, { ...place, ensureGit, send, signal }, kept) : send;
  await concludeSend(context, settled, isInPlace);
  const first = isInPlace ? kept[0] : undefined;
  const stays = first === undefined ? '' : `, but for what was changed there meanwhile (${pathText(first)})`;
  const what = isInPlace ? `the new tree is in place${stays}` : 'the tree is the one before';
  context.log('info', `an interrupted prepare of ${guestPath} in VM ${vm.name} is settled: ${what}`);
}

/** Whether there is something to settle in a place; costs next to nothing. */
export function isSendUnsettled(db: Database, vmId: string, guestPath: string): boolean {
  return listSends(db, vmId).some(({ workspace }) => workspace.guestPath === guestPath);
}

/**
 * Settles before a guest is used by somebody else than `prepare`, so that nobody works in a tree that is half of one
 * and half of another. Where that does not work, the guest can be used all the same: to see why.
 */
export async function settleBeforeUse(
  context: SettleContext & Pick<WorkspaceContext, 'locks'>,
  { vm, guest }: { readonly vm: Vm; readonly guest: Guest },
  signal: AbortSignal,
): Promise<void> {
  const { locks, db, log } = context;
  // A sending that is under way is none that was interrupted, and whoever holds the VM has other things to do.
  const isBusy = (): boolean => locks.workspace.isTaken(vm.id) || locks.vm.isTaken(vm.id);
  if (listSends(db, vm.id).length === 0 || isBusy()) return;
  await locks.workspace.run(vm.id, signal, async () => {
    for (const { workspace } of listSends(db, vm.id)) {
      const { guestPath } = workspace;
      try {
        await settleSend(context, { vm, guest, guestPath }, signal);
      } catch (error) {
        signal.throwIfAborted();
        log(
          'warn',
          `an interrupted prepare of ${guestPath} in VM ${vm.name} is not settled: ${errorText(error)}`,
        );
      }
    }
  });
}
