import type { EngineContext, WorkspaceContext } from '../context.ts';
import { sendAll } from '../images/export/export-image.ts';
import type { Operation } from '../operations.ts';
import type { EngineStream } from '../rpc/frame-stream.ts';
import type { ParsedParams } from '../rpc/method.ts';
import type { ExportHead, workspaceExport } from '../rpc/workspace-methods.ts';
import { resolveWorkspace } from './bound-vm.ts';
import { patchFilterWarnings } from './host-tree/filtered-paths.ts';
import { findRepository } from './host-tree/repository.ts';
import { readCommits } from './guest-tree/guest-commits.ts';
import { readChanges, type GuestChanges, type GuestWorkspace } from './guest-tree/guest-changes.ts';
import { MailCheck } from './guest-tree/mail-check.ts';
import { PatchCheck } from './guest-tree/patch-check.ts';
import { readSizes } from './guest-tree/guest-sizes.ts';
import { fetchSent, withGuestWorkspace } from './guest-workspace.ts';
import { remarksOn } from './remarks.ts';
import { withScratch } from './scratch.ts';
import { withSpool, type Spool } from './spool.ts';
import { tellWorkspace } from './workspace-events.ts';

type ExportParams = ParsedParams<typeof workspaceExport>;

/**
 * Sends what changed in a guest: a line of JSON (`ExportHead`), then the patch or the mails as they are. All of it is
 * here before the first byte leaves: half a patch could be applied.
 */
export async function exportWorkspaceRoute(
  context: WorkspaceContext & Pick<EngineContext, 'events'>,
  params: ExportParams,
  { operation, stream }: { readonly operation: Operation; readonly stream: EngineStream },
): Promise<object> {
  return withSpool(context.layout, async (spool) => {
    const head = await exportWorkspace(context, params, operation, spool);
    operation.enter('Sending changes');
    await sendAll(withHead(head, spool), { operation, stream });
    if (params.format !== 'list') tellWorkspace(context, 'exported', head);
    return {};
  });
}

async function* withHead(head: ExportHead, spool: Spool): AsyncGenerator<Buffer> {
  yield Buffer.from(`${JSON.stringify(head)}\n`);
  yield* spool.read();
}

export interface ExportInto extends Pick<Spool, 'write'> {
  /** Called when all of the patch is there, while nobody else works on the workspace; may refuse it */
  readonly onPatch?: (workspace: GuestWorkspace, changes: GuestChanges) => Promise<void>;
}

/** Answers what changed in the guest since the tree was sent. Guest and host stay as they are. */
export async function exportWorkspace(
  context: WorkspaceContext,
  params: Omit<ExportParams, 'format'> & Partial<Pick<ExportParams, 'format'>>,
  operation: Operation,
  into: ExportInto,
): Promise<ExportHead> {
  const bound = await resolveWorkspace(context.db, params, 'export');
  const { hostPath, guestPath, head: sentCommit } = bound.workspace;
  const onPiece = (piece: Buffer): Promise<void> => into.write(piece);
  return withGuestWorkspace(context, bound, operation, async (workspace, recorded) => {
    const { baseTree, vmName } = workspace;
    const place = { vm: vmName, hostPath, guestPath, baseTree };
    if (params.format === 'commits') {
      return { ...place, ...(await exportCommits(context, workspace, { sentCommit, onPiece })) };
    }
    const sent = await fetchSent(context, recorded);
    if (params.format === 'list') {
      const changes = await readChanges(workspace, { sent });
      const files = await readSizes(workspace, changes);
      return { ...place, files, warnings: remarksOn(changes, workspace, 'in the patch') };
    }
    const { signal } = operation;
    // Meanwhile: the guest is what takes time.
    const finding = findRepository(context.exec, hostPath, signal).catch(() => undefined);
    const check = new PatchCheck(vmName, signal);
    let changes: GuestChanges;
    let unchecked: string[];
    try {
      const onPatch = async (piece: Buffer): Promise<void> => {
        await onPiece(piece);
        await check.push(piece);
      };
      changes = await readChanges(workspace, { sent, onPatch });
      unchecked = await check.end(changes.paths.map(({ path }) => path));
    } finally {
      check.close();
    }
    await into.onPatch?.(workspace, changes);
    const paths = changes.paths.map(({ path }) => path);
    const filtered = await patchFilterWarnings(await finding, { paths, signal });
    return {
      ...place,
      files: [...changes.files],
      warnings: [...remarksOn(changes, workspace, 'in the patch'), ...filtered, ...unchecked],
    };
  });
}

/** The guest's commits as mails, each of which is what the list of commits says. */
function exportCommits(
  { exec, layout }: WorkspaceContext,
  workspace: GuestWorkspace,
  {
    sentCommit,
    onPiece,
  }: { readonly sentCommit: string | undefined; readonly onPiece: (piece: Buffer) => Promise<void> },
): Promise<Omit<Awaited<ReturnType<typeof readCommits>>, 'mailed'>> {
  return withScratch(layout, async (scratch) => {
    const check = new MailCheck(exec, scratch, workspace);
    try {
      const { mailed, ...told } = await readCommits(workspace, sentCommit, async (piece) => {
        await onPiece(piece);
        await check.push(piece);
      });
      return { ...told, warnings: [...told.warnings, ...(await check.end(mailed))] };
    } finally {
      await check.close();
    }
  });
}
