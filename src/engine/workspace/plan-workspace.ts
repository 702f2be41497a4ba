import { randomUUID } from 'node:crypto';
import type { WorkspaceContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import { sendAll } from '../images/export/export-image.ts';
import type { EngineStream } from '../rpc/frame-stream.ts';
import { encodeLine } from '../rpc/lines.ts';
import type { ParsedParams } from '../rpc/method.ts';
import type { workspacePlan, WorkspacePlan } from '../rpc/workspace-methods.ts';
import { inspectTree, type WorkingTree } from './host-tree/inspect-tree.ts';
import { pathText, type RawPath } from './host-tree/raw-path.ts';
import { withScratch } from './scratch.ts';
import { buildShipment } from './sending/shipment.ts';

type PlanContext = Pick<WorkspaceContext, 'exec' | 'layout'>;
type PlanParams = ParsedParams<typeof workspacePlan>;

/** Sends a plan as lines: all else first, then its files, of which there is no most. */
export async function planWorkspaceRoute(
  context: PlanContext,
  params: PlanParams,
  { operation, stream }: { readonly operation: Operation; readonly stream: EngineStream },
): Promise<object> {
  const plan = await planWorkspace(context, params, operation);
  operation.enter('Sending list');
  await sendAll(linesOf(plan), { operation, stream });
  return {};
}

async function* linesOf({ files, ...head }: WorkspacePlan): AsyncGenerator<Buffer> {
  yield Buffer.from(encodeLine(head));
  for (let at = 0; at < files.length; at += linesAtOnce) {
    yield Buffer.from(
      files
        .slice(at, at + linesAtOnce)
        .map(encodeLine)
        .join(''),
    );
  }
}

/** So that others get a turn in between. */
const linesAtOnce = 1000;

/**
 * Tells what `prepare` would send of a working tree to a VM that has none of it. Builds all of it beside the
 * repository, so that it fails where `prepare` would fail, and touches no VM.
 */
export async function planWorkspace(
  { exec, layout }: PlanContext,
  { path, includeUntracked, include, guestBranch: branch }: PlanParams,
  operation: Operation,
): Promise<WorkspacePlan> {
  const { signal } = operation;
  return withScratch(layout, async (scratch) => {
    operation.enter('Reading working tree');
    const tree = await inspectTree(exec, { path, scratch, includeUntracked, include, branch, signal });
    const options = { fullHistory: false, token: randomUUID(), canMakeBlobs: () => Promise.resolve(true) };
    const { totalBytes } = await buildShipment(tree, scratch, options);
    const files = plannedFiles(tree);
    return {
      hostPath: tree.repository.topLevel,
      head: tree.repository.head,
      branch: tree.repository.branch,
      count: files.length,
      files,
      repositoryBytes: files.reduce((rest, file) => rest - file.bytes, totalBytes),
      bytes: totalBytes,
      untracked: tree.untracked,
      ignored: tree.ignored,
      leftBehind: { ...tree.leftBehind },
      warnings: [...tree.warnings],
    };
  });
}

function plannedFiles(tree: WorkingTree, prefix: RawPath = ''): { path: string; bytes: number }[] {
  return [
    ...tree.files.map(({ path, sizeBytes }) => ({ path: pathText(`${prefix}${path}`), bytes: sizeBytes })),
    ...tree.submodules.flatMap(({ path, tree: inner }) =>
      inner ? plannedFiles(inner, `${prefix}${path}/`) : [],
    ),
  ];
}
