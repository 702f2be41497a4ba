import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError } from '../../errors.ts';
import { DirectoryWatcher } from '../../host/watch-directories.ts';
import { findVm, resolveVm, type Vm } from '../../state/vms.ts';
import type { EngineContext, WorkspaceContext } from '../context.ts';
import { requireRunning } from '../lifecycle/exec-vm.ts';
import type { Operation } from '../operations.ts';
import type { EngineStream } from '../rpc/frame-stream.ts';
import type { ParsedParams, ResultOf } from '../rpc/method.ts';
import type { WatchLine, workspacePrepare, workspaceWatch } from '../rpc/workspace-methods.ts';
import { CannotSwitchError, withFixedStart } from './host-tree/guest-branch.ts';
import { checkTree, inspectTree, type WorkingTree } from './host-tree/inspect-tree.ts';
import { prepareWorkspace, type EnsureVm } from './prepare-workspace.ts';
import { withScratch } from './scratch.ts';
import { SettledChanges } from './host-tree/settled-changes.ts';
import { resolvePlace } from './host-tree/untracked-files.ts';
import { describeTree, watchedTree, type WatchedTree } from './host-tree/watched-tree.ts';
import { WouldBeLostError } from './sending/workspace-place.ts';

type WatchContext = WorkspaceContext & Pick<EngineContext, 'events'>;
type WatchParams = ParsedParams<typeof workspaceWatch> & {
  /** What `include` names was there once */
  readonly mayBeGone?: boolean;
};

/** What nobody tells us of is looked at again after this: the end of another git, or of a program that writes a file. */
const retryMs = 2_000;

/**
 * Sends a working tree, and again whenever it changes, until the signal fires or the VM stops, which rejects. Tells of
 * every sending, and of those that did not work, as lines of JSON; what can be put right by changing the tree does not
 * end it.
 */
export async function watchWorkspace(
  context: WatchContext,
  wanted: WatchParams,
  watch: {
    readonly operation: Operation;
    readonly stream: Pick<EngineStream, 'send'>;
    readonly ensureVm: EnsureVm;
    /** Called before each sending */
    readonly beforeSend?: () => Promise<void>;
  },
): Promise<void> {
  const { operation, stream, ensureVm, beforeSend } = watch;
  let params = await withFixedPlaces(context, wanted, operation.signal);
  const changes = new SettledChanges(operation.signal);
  let watched: WatchedTree | undefined;
  const watcher = new DirectoryWatcher((...what) => {
    if (!watched || watched.isOfInterest(...what)) changes.note();
  });
  const say = (line: WatchLine): Promise<void> => stream.send('stdout', `${JSON.stringify(line)}\n`);
  let vm: Vm | undefined;
  let seen: string | undefined;
  let failure: string | undefined;
  let unsubscribe: (() => void) | undefined;
  try {
    for (;;) {
      changes.reset();
      try {
        const now = await look(context, params, {
          watcher,
          signal: operation.signal,
          onWatched: (tree) => (watched = tree),
        });
        if (now !== seen) {
          await beforeSend?.();
          const result = await send(context, { ...params, vm: vm?.id ?? params.vm }, operation, ensureVm);
          if (!vm) {
            vm = resolveVm(context.db, result.vm);
            unsubscribe = endsWith(context, vm, changes);
            // Programs save by taking a file away and making it anew, and builds begin with nothing.
            params = { ...params, mayBeGone: true };
          }
          seen = now;
          await say({ kind: 'sent', ...result });
        }
        failure = undefined;
      } catch (error) {
        if (!vm || !(error instanceof BangerError) || !canGoOn(context, vm, error)) throw error;
        // Said once, until something else is wrong.
        if (error.message !== failure)
          await say({ kind: 'failed', message: error.message, hint: error.hint });
        failure = error.message;
      }
      operation.enter('Watching');
      await changes.settled(failure === undefined ? undefined : retryMs);
    }
  } finally {
    unsubscribe?.();
    watcher.close();
  }
}

/** A branch that begins at `HEAD~1` is not to move with every commit here, and a path to be found without what is above it. */
async function withFixedPlaces(
  { exec }: WatchContext,
  wanted: WatchParams,
  signal: AbortSignal,
): Promise<WatchParams> {
  const params = { ...wanted, include: await Promise.all(wanted.include.map(resolvePlace)) };
  if (!params.guestBranch) return params;
  const repository = await checkTree(exec, { ...params, signal });
  return { ...params, guestBranch: await withFixedStart(repository, params.guestBranch) };
}

/** Sends a tree as it was sent before: what is not to be written to stays so. */
function send(
  context: WatchContext,
  params: WatchParams,
  operation: Operation,
  ensureVm: EnsureVm,
): Promise<ResultOf<typeof workspacePrepare>> {
  const policy = params.overwrite ? 'overwrite' : 'keep';
  return prepareWorkspace(context, { ...params, policy, fullHistory: false }, operation, ensureVm);
}

/** Files that are being written, commits of the guest, and pauses are not for ever; a VM that is gone is. */
function canGoOn({ db }: WatchContext, { id }: Vm, error: BangerError): boolean {
  if (error.code === 'busy' || error.code === 'invalid_argument') return true;
  if (error instanceof WouldBeLostError || error instanceof CannotSwitchError) return true;
  return findVm(db, id)?.state === 'paused';
}

/** Ends the watch when the VM stops or goes, or has done so already. */
function endsWith({ db, events }: WatchContext, vm: Vm, changes: SettledChanges): () => void {
  const unsubscribe = events.subscribe((event) => {
    if (event.type !== 'vm' || event.id !== vm.id) return;
    if (event.action !== 'stopped' && event.action !== 'deleted') return;
    const name = event.name ?? vm.name;
    changes.fail(
      new BangerError('invalid_state', `VM "${name}" was ${event.action}`, {
        hint: event.action === 'stopped' ? `Start it with: banger vm start ${name}` : undefined,
      }),
    );
  });
  const now = findVm(db, vm.id);
  try {
    if (now) requireRunning(now);
    return unsubscribe;
  } catch (error) {
    unsubscribe();
    throw error;
  }
}

/** Reads the tree, watches where it can change, and tells one state of it from the next. */
async function look(
  { exec, layout }: WatchContext,
  { path, includeUntracked, include, mayBeGone }: WatchParams,
  {
    watcher,
    signal,
    onWatched,
  }: {
    readonly watcher: DirectoryWatcher;
    readonly signal: AbortSignal;
    readonly onWatched: (tree: WatchedTree) => void;
  },
): Promise<string> {
  return withScratch(layout, async (scratch) => {
    for (let count = 0; ; count++) {
      const own = join(scratch, String(count));
      await mkdir(own, { mode: 0o700 });
      const tree: WorkingTree = await inspectTree(exec, {
        path,
        scratch: own,
        includeUntracked,
        include,
        mayBeGone,
        signal,
      });
      const watched = await watchedTree(tree, { includeUntracked, include, mayBeGone });
      onWatched(watched);
      // Watched before it is read: what changes in between is seen by one or the other.
      if (!watcher.update(watched.directories)) return describeTree(tree);
    }
  });
}
