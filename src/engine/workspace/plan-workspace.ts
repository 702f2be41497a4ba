import { randomUUID } from 'node:crypto';
import type { WorkspaceContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import { maxLineBytes } from '../rpc/messages.ts';
import type { ParsedParams, ResultOf } from '../rpc/method.ts';
import type { workspacePlan } from '../rpc/workspace-methods.ts';
import { inspectTree, type WorkingTree } from './host-tree/inspect-tree.ts';
import { pathText, type RawPath } from './host-tree/raw-path.ts';
import { withScratch } from './scratch.ts';
import { buildShipment } from './sending/shipment.ts';

interface PlannedFile {
  readonly path: RawPath;
  readonly bytes: number;
}

/**
 * Tells what `prepare` would send of a working tree to a VM that has none of it. Builds all of it beside the
 * repository, so that it fails where `prepare` would fail, and touches no VM.
 */
export async function planWorkspace(
  { exec, layout }: Pick<WorkspaceContext, 'exec' | 'layout'>,
  { path, includeUntracked, include, guestBranch: branch }: ParsedParams<typeof workspacePlan>,
  operation: Operation,
): Promise<ResultOf<typeof workspacePlan>> {
  const { signal } = operation;
  return withScratch(layout, async (scratch) => {
    operation.enter('Reading working tree');
    const tree = await inspectTree(exec, { path, scratch, includeUntracked, include, branch, signal });
    const { totalBytes } = await buildShipment(tree, scratch, { fullHistory: false, token: randomUUID() });
    const files = plannedFiles(tree);
    return {
      hostPath: tree.repository.topLevel,
      head: tree.repository.head,
      branch: tree.repository.branch,
      count: files.length,
      files: listedFiles(files),
      repositoryBytes: files.reduce((rest, file) => rest - file.bytes, totalBytes),
      bytes: totalBytes,
      untracked: tree.untracked,
      ignored: tree.ignored,
      leftBehind: { ...tree.leftBehind },
      warnings: [...tree.warnings],
    };
  });
}

/** What the list of files may take of a message; the rest is for warnings and the like. */
const maxListBytes = maxLineBytes - 2 * 1024 * 1024;

/** The files as they are told: all, or those that fit into a message; more are counted, and not listed. */
export function listedFiles(files: readonly PlannedFile[]): ResultOf<typeof workspacePlan>['files'] {
  const listed: ResultOf<typeof workspacePlan>['files'] = [];
  let left = maxListBytes;
  for (const { path, bytes } of files) {
    const file = { path: pathText(path), bytes };
    left -= Buffer.byteLength(JSON.stringify(file)) + 1;
    if (left < 0) break;
    listed.push(file);
  }
  return listed;
}

function plannedFiles(tree: WorkingTree, prefix: RawPath = ''): PlannedFile[] {
  return [
    ...tree.files.map(({ path, sizeBytes }) => ({ path: `${prefix}${path}`, bytes: sizeBytes })),
    ...tree.submodules.flatMap(({ path, tree: inner }) =>
      inner ? plannedFiles(inner, `${prefix}${path}/`) : [],
    ),
  ];
}
