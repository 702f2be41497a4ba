import { BangerError } from '../../../errors.ts';
import type { Vm } from '../../../state/vms.ts';
import { listWorkspaces, type Workspace } from '../../../state/workspaces.ts';
import type { WorkspaceContext } from '../../context.ts';
import type { Guest } from '../../guest.ts';
import type { Operation } from '../../operations.ts';
import { readApplied, type AppliedRecord } from '../applying/applied-record.ts';
import { askForManifest, readGuestHead, type GuestHead } from '../guest-tree/ask-guest.ts';
import type { ConflictPolicy } from './build-update.ts';
import { isAsSent } from '../guest-tree/quick-look.ts';
import { readChanges, type GuestChanges, type GuestWorkspace } from '../guest-tree/guest-changes.ts';
import { ensureGuestGit } from '../guest-tree/guest-git.ts';
import { defaultGuestPath } from '../guest-path.ts';
import { readManifest, type Manifest } from './manifest.ts';
import { lookAt } from './send-tree.ts';
import { isSendUnsettled, manifestPlace, settleSend } from './settle-sends.ts';
import { shellWord } from '../../../host/shell-quote.ts';

export interface Place {
  readonly vm: Vm;
  readonly guest: Guest;
  readonly workspace: Pick<Workspace, 'vmId' | 'hostPath' | 'guestPath' | 'isReadOnly'>;
  readonly policy: ConflictPolicy;
  readonly fullHistory: boolean;
}

/** What a guest has of the workspace that can be brought to its new state. */
export interface There extends GuestHead {
  readonly known: Workspace;
  readonly ensureGit: () => Promise<string>;
  readonly manifest: Manifest;
  /** What of the guest's changes went into the host's tree since that was sent */
  readonly applied?: AppliedRecord;
  readonly changes: GuestChanges;
  readonly workspace: GuestWorkspace;
}

export interface LookOptions {
  /** The operation's own unless another one ends it as well */
  readonly signal?: AbortSignal;
  /** Of what is recorded for the place, when it was read already */
  readonly manifest?: Manifest;
}

/**
 * Looks at the place; undefined when all of the tree has to be sent, since nothing is there or what is there may be
 * replaced. Refuses a place whose content is not ours to replace.
 */
export async function findThere(
  context: WorkspaceContext,
  place: Place,
  operation: Operation,
  { signal = operation.signal, manifest }: LookOptions = {},
): Promise<There | undefined> {
  const { vm, guest } = place;
  const { hostPath, guestPath } = place.workspace;
  const isSettled = await settle(context, place, operation);
  const all = listWorkspaces(context.db, vm.id);
  const known = all.find((each) => each.guestPath === guestPath);
  if (known && known.hostPath !== hostPath) {
    throw new BangerError('already_exists', `"${guestPath}" in VM "${vm.name}" holds "${known.hostPath}"`, {
      hint: `Choose another place: banger workspace prepare ${shellWord(hostPath)} --vm ${vm.name} --guest-path ${shellWord(`${guestPath}-2`)}`,
    });
  }
  if (!known) await refuseMixture(place, all, signal);
  if (manifest && known && isSettled) {
    operation.enter('Reading changes');
    const unchanged = await lookQuickly(context, { ...place, known }, { signal, manifest });
    if (unchanged) return unchanged;
  }
  // Also puts back what an interrupted `prepare` moved away, so it comes first even when all may be replaced.
  const { isOccupied } = await lookAt({ guest, guestPath, vmName: vm.name }, signal);
  if (!isOccupied || !isSettled) return undefined;
  if (!known) {
    if (place.policy === 'overwrite') return undefined;
    throw new BangerError(
      'already_exists',
      `"${guestPath}" in VM "${vm.name}" is not empty and not a workspace`,
      {
        hint: `Choose another place with --guest-path, or replace it: banger workspace prepare ${shellWord(hostPath)} --vm ${vm.name} --guest-path ${shellWord(guestPath)} --overwrite`,
      },
    );
  }
  operation.enter('Reading changes');
  try {
    return await lookInto(context, { ...place, known }, { signal, manifest });
  } catch (error) {
    // A repository that git there cannot read any more is replaced when it may be.
    if (place.policy === 'overwrite' && isGuestTrouble(error)) return undefined;
    throw error;
  }
}

/** A tree in another one would be files of that one, to git and to whoever replaces it. One that is gone is in nobody's way. */
async function refuseMixture(
  { vm, guest, workspace: { hostPath, guestPath } }: Place,
  all: readonly Workspace[],
  signal: AbortSignal,
): Promise<void> {
  const isIn = (inner: string, outer: string): boolean => inner.startsWith(`${outer}/`);
  for (const other of all) {
    if (!isIn(guestPath, other.guestPath) && !isIn(other.guestPath, guestPath)) continue;
    const look = await lookAt({ guest, guestPath: other.guestPath, vmName: vm.name }, signal);
    if (!look.isOccupied) continue;
    const where = isIn(guestPath, other.guestPath)
      ? `is in the workspace "${other.guestPath}"`
      : `has the workspace "${other.guestPath}" in it`;
    throw new BangerError('invalid_argument', `"${guestPath}" in VM "${vm.name}" ${where}`, {
      hint: `Choose a place of its own: banger workspace prepare ${shellWord(hostPath)} --vm ${vm.name} --guest-path ${shellWord(`${defaultGuestPath(hostPath)}-2`)}`,
    });
  }
}

/** Finishes what was interrupted. False for what cannot be finished and may be replaced. */
async function settle(context: WorkspaceContext, place: Place, operation: Operation): Promise<boolean> {
  const { vm, guest, policy, workspace } = place;
  const { guestPath } = workspace;
  if (!isSendUnsettled(context.db, vm.id, guestPath)) return true;
  operation.enter('Finishing an interrupted prepare');
  try {
    await settleSend(context, { vm, guest, guestPath }, operation.signal);
    return true;
  } catch (error) {
    if (policy === 'overwrite' && isGuestTrouble(error)) return false;
    throw error;
  }
}

function isGuestTrouble(error: unknown): boolean {
  return error instanceof BangerError && error.code === 'command_failed';
}

type KnownPlace = Place & { readonly known: Workspace };

async function lookInto(
  context: WorkspaceContext,
  place: KnownPlace,
  { signal, manifest }: LookOptions & { readonly signal: AbortSignal },
): Promise<There> {
  const { known } = place;
  const inside = insideOf(context, place, signal);
  const recorded = manifestPlace(context.layout, known);
  const sent = manifest && { token: known.token, size: manifest.files.size, parse: () => manifest };
  const [changes, head, kept, applied] = await Promise.all([
    readChanges(inside.workspace, { sent }),
    readGuestHead(inside.workspace, known.head),
    manifest ?? readManifest(recorded, known),
    readApplied(recorded, known, inside.workspace),
  ]);
  const asked = kept ?? (await askForManifest(inside.workspace, known.head));
  return { known, ...inside, changes, ...head, manifest: asked, applied };
}

/** Undefined unless all is there as it was sent. */
async function lookQuickly(
  context: WorkspaceContext,
  place: KnownPlace,
  { signal, manifest }: { readonly signal: AbortSignal; readonly manifest: Manifest },
): Promise<There | undefined> {
  const { known } = place;
  if (!(await isAsSent({ ...known, guest: place.guest, files: manifest.files, signal }))) return undefined;
  const changes = { files: [], paths: [], nested: [], underWay: [], unresolved: [] };
  const inside = insideOf(context, place, signal);
  const applied = await readApplied(manifestPlace(context.layout, known), known, inside.workspace);
  return { known, ...inside, changes, isHeadKnown: true, isUnderWay: false, manifest, applied };
}

function insideOf(
  { assets }: WorkspaceContext,
  { vm, guest, known }: KnownPlace,
  signal: AbortSignal,
): Pick<There, 'workspace' | 'ensureGit'> {
  let git: Promise<string> | undefined;
  const ensureGit = (): Promise<string> =>
    (git ??= ensureGuestGit({ assets, guest, vmName: vm.name, signal }));
  return { ensureGit, workspace: { guest, ensureGit, ...known, vmName: vm.name, signal } };
}

/** What the guest has would be lost; whoever works there can save it. */
export class WouldBeLostError extends BangerError {}

export function conflictError(
  { vm, workspace: { hostPath, guestPath } }: Place,
  paths: readonly string[],
  what = 'changes',
): BangerError {
  const list = paths.length > 0 ? `: ${shown(paths)}` : '';
  return new WouldBeLostError(
    'invalid_state',
    `"${guestPath}" in VM "${vm.name}" has ${what} that would be lost${list}`,
    {
      hint: `Give --overwrite, or save them first: banger workspace export ${shellWord(hostPath)} --vm ${vm.name} --guest-path ${shellWord(guestPath)} -o changes.patch`,
    },
  );
}

/** Nobody knows whether that is to go there, too. */
export function undoneError(
  { vm, workspace: { hostPath, guestPath } }: Place,
  paths: readonly string[],
): BangerError {
  return new WouldBeLostError(
    'invalid_state',
    `"${guestPath}" in VM "${vm.name}" has changes that would be lost: ${shown(paths)}; they were applied here, and are not here any more, or not all of them`,
    {
      hint: `Apply them again, or keep yours with --ours FILE: banger workspace apply ${shellWord(hostPath)} --vm ${vm.name} --guest-path ${shellWord(guestPath)}`,
    },
  );
}

/** A patch has what they changed, and does not help: the branch would leave them all the same. */
export function commitsError({ vm, workspace: { hostPath, guestPath } }: Place): BangerError {
  return new WouldBeLostError(
    'invalid_state',
    `"${guestPath}" in VM "${vm.name}" has commits that would be lost`,
    {
      hint: `Take all of what they changed over: banger workspace apply ${shellWord(hostPath)} --vm ${vm.name} --guest-path ${shellWord(guestPath)}; or get them, and give --overwrite: git fetch ${shellWord(`banger::${vm.name}${guestPath}`)}`,
    },
  );
}

/** Paths in words, the first of many. */
export function shown(paths: readonly string[]): string {
  const first = paths.slice(0, 10).map((path) => JSON.stringify(path));
  const more = paths.length > first.length ? ` and ${paths.length - first.length} more` : '';
  return `${first.join(', ')}${more}`;
}
