import { abortError, BangerError, errnoOf } from '../../../errors.ts';
import { shellQuote } from '../../../host/shell-quote.ts';
import { formatBytes } from '../../../state/units.ts';
import type { Guest, GuestProcess } from '../../guest.ts';
import type { ParsedChanges } from './changes-format.ts';
import { ChangesReader } from './changes-reader.ts';
import { anyGit, changesScript, guestGitSettings, noGitExitCode } from './changes-script.ts';
import { complaint } from './guest-git.ts';
import { tellWords, ToldReader, type SentTree } from './told-changes.ts';
import { toldInput } from './told-script.ts';

/** A workspace in a running guest. */
export interface GuestWorkspace {
  readonly guest: Guest;
  /** Finds git in the guest, or sends ours, and returns its program */
  readonly ensureGit: () => Promise<string>;
  readonly guestPath: string;
  readonly baseTree: string;
  readonly vmName: string;
  readonly signal: AbortSignal;
}

/** What differs between a guest's workspace and what was sent. */
export type GuestChanges = ParsedChanges;

export interface ReadOptions {
  /** What was sent, where that is known: git need not look where the guest says that nothing was changed since */
  readonly sent?: SentTree;
  /** What to compare with, in the guest's repository (default: the tree that was sent) */
  readonly base?: string;
  /** Takes the patch for `git apply`, piece by piece; without it none is made */
  readonly onPatch?: (piece: Buffer) => Promise<void>;
  /** How long all of it may be; 4 GiB when absent */
  readonly maxPatchBytes?: number;
}

/** More than this is no change to review, and a guest could go on for ever: 4 GiB. */
const mostPatchBytes = 4 * 1024 ** 3;

/**
 * Compares a guest's workspace with what was sent, in one go: the fewest programs and round trips, since the guest
 * may be emulated. The host runs nothing.
 */
export async function readChanges(
  workspace: GuestWorkspace,
  options: ReadOptions = {},
): Promise<GuestChanges> {
  const attempt = await runScript(workspace, anyGit, options);
  if (attempt) return attempt;
  const again = await runScript(workspace, await workspace.ensureGit(), options);
  if (again) return again;
  throw new Error('A guest with git has none');
}

/** Undefined when the guest has no git. */
async function runScript(
  workspace: GuestWorkspace,
  git: string,
  { base = workspace.baseTree, onPatch, maxPatchBytes = mostPatchBytes, ...options }: ReadOptions,
): Promise<GuestChanges | undefined> {
  const { guest, guestPath, signal, vmName } = workspace;
  const format = onPatch ? '-p --binary' : '';
  const sent = base === workspace.baseTree ? options.sent : undefined;
  const words = [...tellWords(sent), guestPath, base, git, format, ...guestGitSettings];
  const process = await guest.spawnToolbox(['sh', '-c', changesScript, 'banger', ...words], { signal });
  const stderr = collectErrors(process);
  // While the guest looks: of a large tree that takes a moment.
  let toldReader: ToldReader | undefined = new ToldReader(sent?.parse()?.files);
  const reader = new ChangesReader(onPatch ?? (async () => undefined));
  let bytes = 0;
  await readOutput(process, signal, async (chunk) => {
    bytes += chunk.length;
    if (bytes > maxPatchBytes) throw tooLarge(workspace, maxPatchBytes);
    if (!toldReader) return reader.push(chunk);
    const answer = toldReader.push(chunk);
    if (!answer) return;
    toldReader = undefined;
    process.stdio.end(answer.told && (await toldInput(answer.told)));
    if (answer.rest.length > 0) await reader.push(answer.rest);
  });
  const exit = await process.exit;
  if (exit.code === noGitExitCode && git === anyGit) return undefined;
  if (exit.code !== 0) throw unreadable(workspace, stderr());
  const changes = await reader.end();
  if (changes) return changes;
  throw new BangerError(
    'command_failed',
    `VM "${vmName}" answered with something that is not a list of changes`,
  );
}

/** Hands on what a program prints until it ends; ends it when that fails. */
export async function readOutput(
  process: GuestProcess,
  signal: AbortSignal,
  onChunk: (chunk: Buffer) => Promise<void>,
): Promise<void> {
  try {
    for await (const chunk of process.stdio.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      await onChunk(chunk);
    }
  } catch (error) {
    process.close();
    if (signal.aborted) throw abortError(signal);
    // A connection that is lost ends the stream first; how it was lost is told here.
    if (errnoOf(error) === 'ERR_STREAM_PREMATURE_CLOSE') await process.exit;
    throw error;
  }
}

/** Collects the beginning and the end of what a program complains about. */
export function collectErrors(process: Pick<GuestProcess, 'stderr'>): () => string {
  let text = '';
  process.stderr.on('data', (chunk: Buffer) => {
    text = (text + chunk.toString('utf8')).slice(-4096);
  });
  return () => text;
}

/** Git in the guest did not do what it should. */
export function unreadable({ vmName, guestPath }: GuestWorkspace, stderr: string): BangerError {
  const words = complaint({ stderr });
  // In a guest that was started by an older build: see `guestGitEnvironment`.
  const isOwnerRefused = /dubious ownership|unsafe repository/.test(words);
  return new BangerError('command_failed', `git cannot read "${guestPath}" in VM "${vmName}"${words}`, {
    hint: isOwnerRefused
      ? `Start the VM anew, which lets git look at trees of other owners: banger vm restart ${vmName}`
      : `Look at it with: banger vm exec ${vmName} -- ${shellQuote(['git', '-C', guestPath, 'status'])}`,
  });
}

function tooLarge({ vmName, guestPath }: GuestWorkspace, maxPatchBytes: number): BangerError {
  return new BangerError(
    'command_failed',
    `The changes in VM "${vmName}" make a patch of more than ${formatBytes(maxPatchBytes)}`,
    {
      hint: `Add large files to .gitignore, or copy them: banger vm exec ${vmName} -- tar -c -C ${shellQuote([guestPath])} FILE`,
    },
  );
}
