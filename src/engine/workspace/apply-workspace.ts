import { join } from 'node:path';
import { BangerError } from '../../errors.ts';
import type { Workspace } from '../../state/workspaces.ts';
import type { WorkspaceContext } from '../context.ts';
import { failpoint } from '../failpoints.ts';
import type { Operation } from '../operations.ts';
import type { ParsedParams, ResultOf } from '../rpc/method.ts';
import type { workspaceApply } from '../rpc/workspace-methods.ts';
import { readApplied, recordApplied } from './applying/applied-record.ts';
import { compareTrees, type ChangeSize } from './applying/compare-trees.ts';
import { findLater } from './applying/find-later.ts';
import { runnableWarnings } from './applying/host-programs.ts';
import { mergeChanges, type MergedPath } from './applying/merge-changes.ts';
import { refuseChanges } from './applying/refuse-changes.ts';
import { appliedNow, byPath, withApplied, type Applied } from './applying/since-applied.ts';
import { fillMoved, fillNeeded } from './applying/untracked-here.ts';
import { withFiles } from './applying/with-files.ts';
import { writeFiles, writeResult } from './applying/write-result.ts';
import { resolveWorkspace } from './bound-vm.ts';
import { statusOf, type ChangedPath, type GitEntry } from './guest-tree/changes-format.ts';
import { readChanges, type GuestChanges, type GuestWorkspace } from './guest-tree/guest-changes.ts';
import { fetchSent, withGuestWorkspace } from './guest-workspace.ts';
import { inspectTree, type WorkingTree } from './host-tree/inspect-tree.ts';
import { displayPath, pathText, type RawPath } from './host-tree/raw-path.ts';
import type { Repository } from './host-tree/repository.ts';
import { scratchObjects, writeTree, type GitVariables } from './host-tree/scratch-objects.ts';
import { listIndex } from './host-tree/sent-files.ts';
import { remarksOn } from './remarks.ts';
import { withScratch } from './scratch.ts';
import { readManifest } from './sending/manifest.ts';
import { manifestPlace } from './sending/settle-sends.ts';
import { shellWord } from '../../host/shell-quote.ts';

type ApplyParams = ParsedParams<typeof workspaceApply>;
type ApplyResult = ResultOf<typeof workspaceApply>;

/**
 * Merges what changed in a guest into the working tree on the host, three ways: against the tree as it was sent.
 *
 * All of it is worked out beside the user's repository first, from content that git checks by name. The working tree
 * is written at the end, all of it or nothing, and only where nothing changed meanwhile; the index is left alone, as
 * by `git apply`. With conflicts nothing is written, unless `markers` asks for them in the files.
 */
export async function applyWorkspace(
  context: WorkspaceContext,
  params: ApplyParams,
  operation: Operation,
): Promise<ApplyResult> {
  try {
    return await applyBound(context, params, operation);
  } catch (error) {
    if (!(error instanceof BangerError) || error.code !== 'cancelled') throw error;
    // The one thing that whoever pressed Ctrl-C wants to know.
    throw new BangerError(
      'cancelled',
      error.message.replace(/(; nothing was written)?$/, '; nothing was written'),
      {
        hint: error.hint,
        cause: error,
      },
    );
  }
}

async function applyBound(
  context: WorkspaceContext,
  params: ApplyParams,
  operation: Operation,
): Promise<ApplyResult> {
  const bound = await resolveWorkspace(context.db, params, 'apply');
  return withGuestWorkspace(context, bound, operation, async (workspace, sent) => {
    const place = manifestPlace(context.layout, sent);
    const changes = await readChanges(workspace, { sent: await fetchSent(context, sent) });
    const applied = (await readApplied(place, sent, workspace)) ?? { paths: new Map() };
    const { outcomes, sizes, warnings } = await withScratch(context.layout, (scratch) =>
      merge(context, { sent, workspace, changes, applied, scratch, params }, operation),
    );
    const hasConflicts = outcomes.some(({ merged }) => merged.outcome === 'conflict');
    return {
      vm: workspace.vmName,
      hostPath: sent.hostPath,
      guestPath: sent.guestPath,
      files: outcomes.map(({ change, merged }) => {
        const { outcome, conflict, reason, isWritable, path: raw } = merged;
        const isWritten = isWritable && (outcome !== 'conflict' || params.markers);
        const size = sizes.get(raw) ?? { added: 0, removed: 0 };
        const movedTo = raw === change.path ? undefined : pathText(raw);
        const [path, status] = [pathText(change.path), statusOf(change)];
        return { path, status, ...size, outcome, movedTo, conflict, reason, isWritten };
      }),
      isApplied: isWritten(outcomes, params),
      hasConflicts,
      warnings: [...remarksOn(changes, workspace, 'applied'), ...warnings],
    };
  });
}

/** Whether what was worked out is written: all that can be. */
function isWritten(outcomes: readonly Outcome[], { dryRun, markers }: ApplyParams): boolean {
  return !dryRun && (markers || outcomes.every(({ merged }) => merged.outcome !== 'conflict'));
}

interface Merge {
  readonly sent: Workspace;
  readonly workspace: GuestWorkspace;
  readonly changes: GuestChanges;
  readonly applied: Applied;
  readonly scratch: string;
  readonly params: ApplyParams;
}

/** A change of the guest, and what becomes of it. */
interface Outcome {
  readonly change: ChangedPath;
  readonly merged: MergedPath;
  /** See `ours` of the method */
  readonly isOurs?: boolean;
}

interface Merged {
  readonly outcomes: readonly Outcome[];
  /** What is written, or would be */
  readonly sizes: ReadonlyMap<RawPath, ChangeSize>;
  readonly warnings: readonly string[];
}

async function merge(
  context: WorkspaceContext,
  { sent, workspace, changes, applied, scratch, params }: Merge,
  operation: Operation,
): Promise<Merged> {
  if (changes.paths.length === 0 && applied.paths.size === 0)
    return { outcomes: [], sizes: new Map(), warnings: [] };
  operation.enter('Reading working tree');
  const { hostPath } = sent;
  const { signal } = operation;
  const inspected = await inspectTree(context.exec, {
    path: hostPath,
    scratch,
    includeUntracked: true,
    signal,
  });
  refuseOtherTree(inspected, hostPath);
  // What was written here is looked at also where git has come to ignore it.
  const tree = await withFiles(inspected, applied.paths.keys(), signal);
  const { repository } = tree;
  const objects = await scratchObjects(repository, scratch);
  const env = { ...objects, GIT_INDEX_FILE: join(scratch, 'result-index') };
  const looked = new Set([...changes.paths.map(({ path }) => path), ...applied.paths.keys()]);
  const rest = await fillNeeded(tree, looked, env);
  let now = await entriesOf(repository, env);

  operation.enter('Fetching changes');
  const target = { repository, env, scratch };
  const found = await findLater({ ...target, workspace, changes, applied, now }, operation);
  const { held, marked, later, before } = found;

  operation.enter('Merging changes');
  const { vmName } = workspace;
  const place = manifestPlace(context.layout, sent);
  const isMoved = later.some(({ path }) => !now.has(path));
  const manifest = isMoved ? await readManifest(place, sent) : undefined;
  const sentPaths = manifest && withApplied(manifest.files, held);
  if (await fillMoved(tree, { rest, changes: later, sent: sentPaths, now }, env))
    now = await entriesOf(repository, env);
  const nowTree = await writeTree(repository, env);
  const ours = chosenHere([...later, ...before], params);
  const mergedPaths = await mergeChanges(later, {
    ...target,
    now,
    others: rest.map(({ path }) => path),
    vmName,
    sentPaths,
    unresolved: new Set(changes.unresolved),
  });
  const merged = mergedPaths.map((each, index) => {
    const change = later[index]!;
    return ours.has(change.path) ? asBefore(change, now) : each;
  });
  const gone = new Set(
    merged.flatMap(({ path, result, isWritable }) => (isWritable && !result ? [path] : [])),
  );
  const present = tree.files.filter(({ path }) => !gone.has(path));
  await refuseChanges(merged, { repository, env, present, vmName });
  const outcomes = [
    ...later.map((change, index) => ({ change, merged: merged[index]! })),
    ...before.map((change) => ({ change, merged: asBefore(change, now) })),
  ]
    .map((each) => ({ ...each, isOurs: ours.has(each.change.path) }))
    .sort((one, other) => byPath(one.change, other.change));
  const written = merged.filter(({ isWritable, outcome }) => {
    return isWritable && (outcome !== 'conflict' || params.markers);
  });
  const result = await writeResult(tree, written, env);
  const [sizes, warnings] = await Promise.all([
    compareTrees(repository, { before: nowTree, after: result, env }),
    runnableWarnings(written, { repository, env, before: nowTree }),
  ]);
  const told = { outcomes, sizes, warnings: [...markerWarnings(marked), ...warnings] };
  if (!isWritten(outcomes, params)) return told;

  operation.enter('Writing files');
  await writeFiles(tree, { written, env, umask: params.umask }, operation);
  await failpoint('files written');
  // Nothing is new: what is recorded stays true.
  if (later.length === 0 && ours.size === 0 && held.size === applied.paths.size) return told;
  const { head, branch } = repository;
  const paths = appliedNow(outcomes, { held, changes: changes.paths });
  const why = await recordApplied(place, sent, { ...workspace, applied: { head, branch, paths } });
  if (why === undefined) return told;
  context.log('warn', `what was applied of ${hostPath} from VM ${vmName} is not remembered: ${why}`);
  return { ...told, warnings: [...told.warnings, notRemembered(why)] };
}

/** Files of which the version here was chosen, by their names. */
function chosenHere(changes: readonly ChangedPath[], { ours }: ApplyParams): ReadonlySet<RawPath> {
  const paths = new Map(changes.map(({ path }) => [pathText(path), path] as const));
  const unknown = ours.find((name) => !paths.has(name));
  if (unknown === undefined) return new Set(ours.map((name) => paths.get(name)!));
  throw new BangerError('invalid_argument', `"${unknown}" is no file that changed in the VM`, {
    hint: 'Name files as `banger workspace apply --check` does, from the top of the tree',
  });
}

function notRemembered(why: string): string {
  return `What was applied is not remembered, since ${why}. Put that right and apply again before anything else changes, here or there: until then what changes in these files on both sides is a conflict`;
}

/** What is in an index, by path. */
async function entriesOf(repository: Repository, env: GitVariables): Promise<ReadonlyMap<RawPath, GitEntry>> {
  const listed = await listIndex(repository, env);
  const entries = new Map<RawPath, GitEntry>();
  for (const file of listed) entries.set(file.path, file);
  return entries;
}

/** What went in before is no news, whatever became of it here; nor is what was chosen not to go in. */
function asBefore({ path }: ChangedPath, now: ReadonlyMap<RawPath, GitEntry>): MergedPath {
  return { path, outcome: 'present', result: now.get(path), isWritable: false };
}

function markerWarnings(marked: ReadonlySet<RawPath>): string[] {
  return [...marked].map(
    (path) => `"${displayPath(path)}" has conflict markers that nobody has resolved here`,
  );
}

/** The directory may have become part of another repository since it was sent. */
function refuseOtherTree({ repository }: WorkingTree, hostPath: string): void {
  if (repository.topLevel === hostPath) return;
  throw new BangerError('invalid_state', `"${hostPath}" is not the top of a git working tree any more`, {
    hint: `Get the changes as a patch with: banger workspace export ${shellWord(hostPath)}`,
  });
}
