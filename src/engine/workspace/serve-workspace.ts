import { join } from 'node:path';
import { BangerError } from '../../errors.ts';
import { startChildStream } from '../../host/child-stream.ts';
import { guestDataMemoryBytes } from '../../host/memory-limit.ts';
import { resolveVm } from '../../state/vms.ts';
import { listWorkspaces, type Workspace } from '../../state/workspaces.ts';
import type { WorkspaceContext } from '../context.ts';
import { bridge } from '../lifecycle/exec-vm.ts';
import type { Operation } from '../operations.ts';
import type { EngineStream } from '../rpc/frame-stream.ts';
import type { ParsedParams } from '../rpc/method.ts';
import type { StreamExit } from '../rpc/server.ts';
import type { workspaceUploadPack } from '../rpc/workspace-methods.ts';
import type { BoundVm } from './bound-vm.ts';
import { fetchIntoMirror } from './guest-tree/fetch-mirror.ts';
import { withGuestWorkspace } from './guest-workspace.ts';
import { mirrorEnvironment } from './guest-tree/mirror.ts';
import { withScratch } from './scratch.ts';

const serveSettings = [
  'transfer.hideRefs=refs/banger/sent',
  // It does not get far: looking for what could be packed tighter would take many files of a guest into memory at once.
  'pack.window=0',
  'pack.threads=1',
].flatMap((setting) => ['-c', setting]);

/**
 * Serves a workspace's repository to git on the host. Git there never talks to the guest: what the guest has is
 * fetched into a mirror beside the user's repository first, where git checks every object, and the mirror is served.
 */
export async function serveWorkspace(
  context: WorkspaceContext,
  { vm: name, place }: ParsedParams<typeof workspaceUploadPack>,
  { operation, stream }: { readonly operation: Operation; readonly stream: EngineStream },
): Promise<StreamExit> {
  const vm = resolveVm(context.db, name);
  const bound = { vm, workspace: chooseWorkspace(vm.name, listWorkspaces(context.db, vm.id), place) };
  return withScratch(context.layout, async (scratch) => {
    const mirror = await fetchMirror(context, bound, { scratch, operation });
    operation.enter('Sending objects');
    const child = startChildStream(['git', ...serveSettings, 'upload-pack', '--strict', mirror], {
      cwd: mirror,
      env: mirrorEnvironment(),
      signal: operation.signal,
      maxMemoryBytes: guestDataMemoryBytes,
    });
    return bridge(
      { ...child, resize: () => undefined, sendSignal: () => undefined },
      stream,
      operation.signal,
    );
  });
}

async function fetchMirror(
  context: WorkspaceContext,
  bound: BoundVm,
  { scratch, operation }: { readonly scratch: string; readonly operation: Operation },
): Promise<string> {
  const mirror = join(scratch, 'mirror.git');
  await withGuestWorkspace(context, bound, operation, (workspace) =>
    fetchIntoMirror(context, { workspace, sent: bound.workspace, mirror }, operation),
  );
  return mirror;
}

/** The workspace that a URL means. Throws with the URLs there are when that is not one of them. */
export function chooseWorkspace(
  vm: string,
  workspaces: readonly Workspace[],
  place: string | undefined,
): Workspace {
  const wanted = place === undefined ? undefined : `/${place.replace(/^\/+|\/+$/g, '')}`;
  const exact = workspaces.filter(({ guestPath }) => guestPath === wanted);
  const fitting = workspaces.filter(({ guestPath }) => wanted === undefined || guestPath.endsWith(wanted));
  const [only, ...others] = exact.length > 0 ? exact : fitting;
  if (only && others.length === 0) return only;
  if (workspaces.length === 0) {
    throw new BangerError('not_found', `VM "${vm}" has no workspace`, {
      hint: `Send a git working tree with: banger workspace prepare . --vm ${vm}`,
    });
  }
  const urls = workspaces.map(({ guestPath }) => `banger::${vm}${guestPath}`);
  const what = wanted === undefined ? 'has several workspaces' : `has not one workspace at "${wanted}"`;
  throw new BangerError('invalid_argument', `VM "${vm}" ${what}`, { hint: `Use one of: ${urls.join(', ')}` });
}
