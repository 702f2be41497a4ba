import { join } from 'node:path';
import { BangerError, errorText } from '../../errors.ts';
import type { WorkspaceContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import type { ParsedParams, ResultOf } from '../rpc/method.ts';
import type { AppliedChange, workspaceApply } from '../rpc/workspace-methods.ts';
import { resolveWorkspace } from './bound-vm.ts';
import { fetchBlobs } from './fetch-blobs.ts';
import { withoutFilters } from './git-config.ts';
import { readChanges, type GuestChanges, type GuestWorkspace } from './guest-changes.ts';
import { withGuestWorkspace } from './guest-workspace.ts';
import { hostGit } from './host-git.ts';
import { inspectTree, type WorkingTree } from './inspect-tree.ts';
import { mergeChanges, type MergedPath } from './merge-changes.ts';
import { displayPath } from './raw-path.ts';
import { refuseChanges } from './refuse-changes.ts';
import { withScratch } from './scratch.ts';
import { scratchObjects, writeTree, type GitVariables } from './scratch-objects.ts';

type ApplyParams = ParsedParams<typeof workspaceApply>;
type ApplyResult = ResultOf<typeof workspaceApply>;

/**
 * Merges what changed in a guest into the working tree on the host, three ways: against the tree as it was sent.
 *
 * All of it is worked out beside the user's repository first, from content that git checks by name. The working
 * tree is written at the end, by the host's git and from its own patch, and only if nothing changed in it
 * meanwhile; the index is left alone, as by `git apply`. With conflicts nothing is written, unless `markers` asks
 * for them in the files.
 */
export async function applyWorkspace(
  context: WorkspaceContext,
  params: ApplyParams,
  operation: Operation,
): Promise<ApplyResult> {
  const bound = await resolveWorkspace(context.db, params);
  const { hostPath, guestPath } = bound.workspace;
  return withGuestWorkspace(context, bound, operation, async (workspace) => {
    const changes = await readChanges(workspace);
    const merged = await withScratch(context.layout, (scratch) =>
      merge(context, { workspace, changes, hostPath, scratch, params }, operation),
    );
    const hasConflicts = merged.some(({ outcome }) => outcome === 'conflict');
    return {
      vm: workspace.vmName,
      hostPath,
      guestPath,
      files: changes.files.map((file, index) => appliedChange(file, merged[index]!)),
      isApplied: !params.dryRun && (!hasConflicts || params.markers),
      hasConflicts,
      warnings: changes.nested.map(
        (path) => `"${displayPath(path)}" is a repository of its own and is not applied`,
      ),
    };
  });
}

interface Merge {
  readonly workspace: GuestWorkspace;
  readonly changes: GuestChanges;
  readonly hostPath: string;
  readonly scratch: string;
  readonly params: ApplyParams;
}

async function merge(
  context: WorkspaceContext,
  { workspace, changes, hostPath, scratch, params }: Merge,
  operation: Operation,
): Promise<MergedPath[]> {
  if (changes.paths.length === 0) return [];
  operation.enter('Reading working tree');
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
  const now = await writeTree(tree, env);

  operation.enter('Fetching changes');
  const oids = changes.paths.flatMap(({ before, after }) => [before?.oid, after?.oid]);
  const wanted = [...new Set(oids.filter((oid) => oid !== undefined))];
  await fetchBlobs(workspace, wanted, { repository, env, scratch }, operation);

  operation.enter('Merging changes');
  const { vmName } = workspace;
  const merged = await mergeChanges(changes.paths, { repository, env, scratch, vmName });
  const present = tree.files.map((file) => file.path);
  await refuseChanges(merged, { repository, env, present, vmName });
  const hasConflicts = merged.some(({ outcome }) => outcome === 'conflict');
  if (params.dryRun || (hasConflicts && !params.markers)) return merged;

  operation.enter('Writing files');
  await writeFiles(context, { tree, now, merged, env, scratch });
  return merged;
}

/** The directory may have become part of another repository since it was sent. */
function refuseOtherTree({ repository }: WorkingTree, hostPath: string): void {
  if (repository.topLevel === hostPath) return;
  throw new BangerError('invalid_state', `"${hostPath}" is not the top of a git working tree any more`, {
    hint: 'Get the changes as a patch with: banger workspace export',
  });
}

interface Write {
  readonly tree: WorkingTree;
  /** Git tree of the working tree as it was looked at */
  readonly now: string;
  readonly merged: readonly MergedPath[];
  readonly env: GitVariables;
  readonly scratch: string;
}

/** Git checks every file against what it was before it writes the first. Not cancelled halfway. */
async function writeFiles(
  { exec }: WorkspaceContext,
  { tree, now, merged, env, scratch }: Write,
): Promise<void> {
  const { topLevel, config } = tree.repository;
  const git = hostGit({
    exec,
    directory: topLevel,
    signal: new AbortController().signal,
    settings: withoutFilters(config),
  });
  // Those that go come first: a file may become a directory.
  const written = merged.filter(({ isWritable }) => isWritable);
  const lines = [...written.filter(({ result }) => !result), ...written.filter(({ result }) => result)].map(
    ({ path, result }) =>
      result ? `${result.mode} ${result.oid} 0\t${path}\0` : `0 ${'0'.repeat(now.length)} 0\t${path}\0`,
  );
  if (lines.length === 0) return;
  await git(['update-index', '-z', '--index-info'], { env, input: Buffer.from(lines.join(''), 'latin1') });
  const result = (await git(['write-tree', '--missing-ok'], { env })).stdout.toString('latin1').trim();
  const patch = join(scratch, 'result.patch');
  const format = ['-r', '-p', '--binary', '--full-index', '--no-renames', '--no-ext-diff', '--no-textconv'];
  const prefixes = ['--no-color', '--src-prefix=a/', '--dst-prefix=b/'];
  await git(['diff-tree', ...format, ...prefixes, `--output=${patch}`, now, result], { env });
  try {
    // The real index: git leaves it alone, and the scratch one already has the result.
    await git(['apply', '--whitespace=nowarn', patch], { env: withoutIndex(env) });
  } catch (error) {
    throw new BangerError(
      'busy',
      `"${topLevel}" changed meanwhile, or has files in the way: ${errorText(error)}`,
      {
        hint: `Nothing was written; try again with: banger workspace apply ${topLevel}`,
        cause: error,
      },
    );
  }
}

function withoutIndex({ GIT_INDEX_FILE: _, ...others }: GitVariables): GitVariables {
  return others;
}

function appliedChange(file: GuestChanges['files'][number], { outcome, reason }: MergedPath): AppliedChange {
  return { ...file, outcome, reason };
}
