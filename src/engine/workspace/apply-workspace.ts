import { join } from 'node:path';
import { BangerError } from '../../errors.ts';
import type { WorkspaceContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import type { ParsedParams, ResultOf } from '../rpc/method.ts';
import type { workspaceApply } from '../rpc/workspace-methods.ts';
import { compareTrees, type ChangeSize } from './applying/compare-trees.ts';
import { resolveWorkspace, type BoundVm } from './bound-vm.ts';
import { fetchBlobs } from './guest-tree/fetch-blobs.ts';
import { readChanges, type GuestChanges, type GuestWorkspace } from './guest-tree/guest-changes.ts';
import { withGuestWorkspace } from './guest-workspace.ts';
import { runnableWarnings } from './applying/host-programs.ts';
import { inspectTree, type WorkingTree } from './host-tree/inspect-tree.ts';
import { mergeChanges, type MergedPath } from './applying/merge-changes.ts';
import { readManifest } from './sending/manifest.ts';
import { pathText, type RawPath } from './host-tree/raw-path.ts';
import { refuseChanges } from './applying/refuse-changes.ts';
import { remarksOn } from './remarks.ts';
import { replaceFiles } from './applying/replace-files.ts';
import { withScratch } from './scratch.ts';
import { fillIndex, scratchObjects, writeTree, type GitVariables } from './host-tree/scratch-objects.ts';
import { manifestPlace } from './sending/settle-sends.ts';
import { stageFiles, withStaging } from './applying/stage-files.ts';

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
  const bound = await resolveWorkspace(context.db, params);
  const { hostPath, guestPath } = bound.workspace;
  return withGuestWorkspace(context, bound, operation, async (workspace) => {
    const changes = await readChanges(workspace);
    const { merged, sizes, warnings } = await withScratch(context.layout, (scratch) =>
      merge(context, { bound, workspace, changes, scratch, params }, operation),
    );
    const hasConflicts = merged.some(({ outcome }) => outcome === 'conflict');
    return {
      vm: workspace.vmName,
      hostPath,
      guestPath,
      files: changes.files.map(({ path, status }, index) => {
        const { outcome, conflict, reason, isWritable, path: raw } = merged[index]!;
        const isWritten = isWritable && (outcome !== 'conflict' || params.markers);
        const size = sizes.get(raw) ?? { added: 0, removed: 0 };
        const movedTo = raw === changes.paths[index]!.path ? undefined : pathText(raw);
        return { path, status, ...size, outcome, movedTo, conflict, reason, isWritten };
      }),
      isApplied: !params.dryRun && (!hasConflicts || params.markers),
      hasConflicts,
      warnings: [...remarksOn(changes, workspace, 'applied'), ...warnings],
    };
  });
}

interface Merge {
  readonly bound: BoundVm;
  readonly workspace: GuestWorkspace;
  readonly changes: GuestChanges;
  readonly scratch: string;
  readonly params: ApplyParams;
}

interface Merged {
  readonly merged: readonly MergedPath[];
  /** What is written, or would be */
  readonly sizes: ReadonlyMap<RawPath, ChangeSize>;
  readonly warnings: readonly string[];
}

async function merge(
  context: WorkspaceContext,
  { bound, workspace, changes, scratch, params }: Merge,
  operation: Operation,
): Promise<Merged> {
  if (changes.paths.length === 0) return { merged: [], sizes: new Map(), warnings: [] };
  operation.enter('Reading working tree');
  const { hostPath } = bound.workspace;
  const tree = await inspectTree(context.exec, {
    path: hostPath,
    scratch,
    includeUntracked: true,
    signal: operation.signal,
  });
  refuseOtherTree(tree, hostPath);
  const { repository } = tree;
  const objects = await scratchObjects(repository, scratch);
  const env = { ...objects, GIT_INDEX_FILE: join(scratch, 'result-index') };
  await fillIndex(tree, env);
  const now = await writeTree(repository, env);

  operation.enter('Fetching changes');
  const oids = changes.paths.flatMap(({ before, after }) => [before?.oid, after?.oid]);
  const wanted = [...new Set(oids.filter((oid) => oid !== undefined))];
  await fetchBlobs(workspace, wanted, { repository, env, scratch }, operation);

  operation.enter('Merging changes');
  const { vmName } = workspace;
  const merged = await mergeChanges(changes.paths, {
    repository,
    env,
    scratch,
    vmName,
    sentPaths: async () =>
      (await readManifest(manifestPlace(context.layout, bound.workspace), bound.workspace))?.files,
    unresolved: new Set(changes.unresolved),
  });
  const gone = new Set(
    merged.flatMap(({ path, result, isWritable }) => (isWritable && !result ? [path] : [])),
  );
  const present = tree.files.filter(({ path }) => !gone.has(path));
  await refuseChanges(merged, { repository, env, present, vmName });
  const hasConflicts = merged.some(({ outcome }) => outcome === 'conflict');
  const written = merged.filter(({ isWritable, outcome }) => {
    return isWritable && (outcome !== 'conflict' || params.markers);
  });
  const result = await writeResult(tree, written, env);
  const [sizes, warnings] = await Promise.all([
    compareTrees(repository, { before: now, after: result, env }),
    runnableWarnings(written, { repository, env, before: now }),
  ]);
  if (params.dryRun || (hasConflicts && !params.markers)) return { merged, sizes, warnings };

  operation.enter('Writing files');
  await writeFiles(tree, { written, env, umask: params.umask }, operation);
  return { merged, sizes, warnings };
}

/** The directory may have become part of another repository since it was sent. */
function refuseOtherTree({ repository }: WorkingTree, hostPath: string): void {
  if (repository.topLevel === hostPath) return;
  throw new BangerError('invalid_state', `"${hostPath}" is not the top of a git working tree any more`, {
    hint: 'Get the changes as a patch with: banger workspace export',
  });
}

/** Makes the scratch index that of the tree as it is to be, and returns its git tree. */
async function writeResult(
  { repository }: WorkingTree,
  written: readonly MergedPath[],
  env: GitVariables,
): Promise<string> {
  const noOid = '0'.repeat(repository.objectFormat === 'sha256' ? 64 : 40);
  // Those that go come first: a file may become a directory.
  const lines = [...written.filter(({ result }) => !result), ...written.filter(({ result }) => result)].map(
    ({ path, result }) => (result ? `${result.mode} ${result.oid} 0\t${path}\0` : `0 ${noOid} 0\t${path}\0`),
  );
  const input = Buffer.from(lines.join(''), 'latin1');
  await repository.git(['update-index', '-z', '--index-info'], { env, input });
  return (await repository.git(['write-tree', '--missing-ok'], { env })).stdout.toString('latin1').trim();
}

interface Write {
  readonly written: readonly MergedPath[];
  /** With an index of the tree as it is to be */
  readonly env: GitVariables;
  readonly umask: number;
}

async function writeFiles(
  { repository, files }: WorkingTree,
  { written, env, umask }: Write,
  { signal }: Operation,
): Promise<void> {
  if (written.length === 0) return;
  const stamps = new Map(files.map(({ path, stamp }) => [path, stamp]));
  const paths = written.flatMap(({ path, result }) => (result ? [path] : []));
  const { topLevel } = repository;
  await withStaging(repository, async ({ files: directory, ...places }) => {
    const staged = await stageFiles(repository, { paths, env, directory });
    const replacements = written.map(({ path }) => {
      return { path, staged: staged.get(path), stamp: stamps.get(path) };
    });
    await replaceFiles(replacements, { topLevel, umask, signal, ...places });
  });
}
