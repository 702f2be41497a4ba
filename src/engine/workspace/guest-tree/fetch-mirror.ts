import { pipeline } from 'node:stream/promises';
import type { Readable } from 'node:stream';
import { BangerError } from '../../../errors.ts';
import { startChildStream } from '../../../host/child-stream.ts';
import { guestDataMemoryBytes, isOutOfMemory } from '../../../host/memory-limit.ts';
import { formatBytes } from '../../../state/units.ts';
import type { Workspace } from '../../../state/workspaces.ts';
import type { WorkspaceContext } from '../../context.ts';
import type { Operation } from '../../operations.ts';
import {
  guestGitEnvironment,
  guestGitSettings,
  worktreeReference,
  worktreeScript,
} from './changes-script.ts';
import { collectErrors, unreadable, type GuestWorkspace } from './guest-changes.ts';
import { boundMirror, defaultBounds, unpacksToMuch, type MirrorBounds } from './bound-mirror.ts';
import { createMirror, mirrorEnvironment, type Mirror } from './mirror.ts';

/** More than this compressed is no change to review. */
const defaultMaxFetchBytes = 1024 ** 3;

export interface FetchMirrorInput {
  readonly workspace: GuestWorkspace;
  readonly sent: Workspace;
  /** Where the mirror is made */
  readonly mirror: string;
  /** Compressed, all of it; for tests */
  readonly maxFetchBytes?: number;
  /** For tests */
  readonly bounds?: MirrorBounds;
}

/**
 * Fetches branches, tags and the working tree of a workspace into a mirror, every object of it checked by git, and none so
 * large that it would take the memory of whoever fetches from there.
 */
export async function fetchIntoMirror(
  { exec }: WorkspaceContext,
  {
    workspace,
    sent,
    mirror: path,
    maxFetchBytes = defaultMaxFetchBytes,
    bounds = defaultBounds,
  }: FetchMirrorInput,
  operation: Operation,
): Promise<void> {
  const { worktree, branch } = await commitWorktree(workspace);
  const { signal } = operation;
  operation.enter('Fetching from the VM');
  const mirror = await createMirror(exec, {
    path,
    hostPath: sent.hostPath,
    anyOid: worktree,
    sent: sent.head,
    signal,
  });
  await fetchAll(workspace, { mirror, isDetached: branch === 'detached', maxFetchBytes }, operation);
  await boundMirror(mirror, { vmName: workspace.vmName, bounds, signal });
  await setHead(mirror, branch);
}

interface Worktree {
  /** Commit of the workspace as it is */
  readonly worktree: string;
  /** Reference that HEAD is, `detached` or `unborn` */
  readonly branch: string;
}

async function commitWorktree(workspace: GuestWorkspace): Promise<Worktree> {
  const { guest, guestPath, baseTree, ensureGit, signal } = workspace;
  // It is needed for the fetch in any case.
  const git = await ensureGit();
  const { exit, stdout, stderr } = await guest.runToolbox(
    ['sh', '-c', worktreeScript, 'banger', guestPath, baseTree, git, '', ...guestGitSettings],
    { signal },
  );
  const last = /(?:^|\n)worktree ([0-9a-f]{40}(?:[0-9a-f]{24})?) (detached|unborn|refs\/heads\/\S+)\n$/.exec(
    stdout.toString('utf8'),
  );
  if (exit.code === 0 && last) return { worktree: last[1]!, branch: last[2]! };
  throw unreadable(workspace, stderr);
}

/** Settings under which the host's git takes what a guest sends. */
const fetchSettings = [
  'fetch.fsckObjects=true',
  'transfer.fsckObjects=true',
  'fetch.unpackLimit=1',
  // Each thread would have files of its own in memory.
  'pack.threads=1',
  'protocol.allow=never',
  'protocol.fd.allow=always',
  'core.hooksPath=/dev/null',
  'gc.auto=0',
  'maintenance.auto=false',
].flatMap((setting) => ['-c', setting]);

interface FetchWanted {
  readonly mirror: Mirror;
  readonly isDetached: boolean;
  readonly maxFetchBytes: number;
}

async function fetchAll(
  { guest, ensureGit, guestPath, vmName }: GuestWorkspace,
  { mirror, isDetached, maxFetchBytes }: FetchWanted,
  operation: Operation,
): Promise<void> {
  const wanted = ['heads/*', 'tags/*'].map((name) => `+refs/${name}:refs/${name}`);
  wanted.push(`+${worktreeReference}:${worktreeReference}`);
  if (isDetached) wanted.push('+HEAD:refs/banger/head');
  const flags = ['-q', '--no-tags', '--no-write-fetch-head', '--update-shallow', '--no-recurse-submodules'];
  const stop = new AbortController();
  const signal = AbortSignal.any([operation.signal, stop.signal]);
  const server = await guest.spawn([await ensureGit(), ...guestGitSettings, 'upload-pack', guestPath], {
    env: guestGitEnvironment,
    signal,
  });
  const child = startChildStream(['git', ...fetchSettings, 'fetch', ...flags, 'fd::3', ...wanted], {
    cwd: mirror.path,
    env: mirrorEnvironment(),
    signal,
    maxMemoryBytes: guestDataMemoryBytes,
    hasExtra: true,
  });
  const [said, served] = [collectErrors(child), collectErrors(server)];
  child.stdio.resume();
  child.stdio.end();
  let isTooMuch = false;
  let bytes = 0;
  const measured = async function* (source: Readable): AsyncGenerator<Buffer> {
    for await (const chunk of source as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      isTooMuch ||= bytes > maxFetchBytes;
      if (isTooMuch) stop.abort();
      operation.progress({ done: bytes, unit: 'bytes' });
      yield chunk;
    }
  };
  // Either side may hang up first; how they ended says what happened.
  server.stdio.on('error', () => undefined);
  pipeline(child.extra!, server.stdio).catch(() => undefined);
  pipeline(server.stdio, measured, child.extra!).catch(() => undefined);
  const exit = await child.exit.catch((error: unknown) => {
    if (isTooMuch) throw tooMuch(vmName, maxFetchBytes);
    throw error;
  });
  server.close();
  if (exit.code === 0) return;
  if (isOutOfMemory(said())) throw unpacksToMuch(vmName);
  const why = [said(), served()].map((text) => text.trim()).find((text) => text !== '') ?? 'no reason given';
  throw new BangerError(
    'command_failed',
    `git does not take what VM "${vmName}" has: ${why.slice(0, 1000)}`,
    {
      hint: `Look at its repository with: banger vm exec ${vmName} -- git -C ${guestPath} fsck`,
    },
  );
}

/** As in the guest, so that a clone checks out what is checked out there. */
async function setHead({ git }: Mirror, branch: string): Promise<void> {
  if (branch.startsWith('refs/heads/')) await git(['symbolic-ref', 'HEAD', branch]);
  if (branch !== 'detached') return;
  await git(['update-ref', '--no-deref', 'HEAD', 'refs/banger/head']);
  await git(['update-ref', '-d', 'refs/banger/head']);
}

function tooMuch(vmName: string, maxFetchBytes: number): BangerError {
  return new BangerError(
    'command_failed',
    `VM "${vmName}" has more than ${formatBytes(maxFetchBytes)} that is not here, compressed`,
    { hint: 'Take large files out of its commits, or get the changes with: banger workspace export' },
  );
}
