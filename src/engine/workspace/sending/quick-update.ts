import { randomUUID } from 'node:crypto';
import type { Workspace } from '../../../state/workspaces.ts';
import type { WorkspaceContext } from '../../context.ts';
import { failpoint } from '../../failpoints.ts';
import type { Operation } from '../../operations.ts';
import { packedPieces } from '../../packed-pieces.ts';
import { promisorRemote } from '../host-tree/git-config.ts';
import type { RawPath } from '../host-tree/raw-path.ts';
import { detachmentFile, isUnderWayFile } from '../host-tree/repository-state.ts';
import { buildUpdate, draftUpdate, type Update } from './build-update.ts';
import type { Manifest, SentFile } from './manifest.ts';
import { parentsOf } from './plan-update.ts';
import { QuickExchange, type FoundPaths, type FoundThere } from './quick-exchange.ts';
import { record, sending, type Inspected, type Sent } from './send-workspace.ts';
import { announceSend, concludeSend } from './settle-sends.ts';
import { FileChangedError, tarStream } from './tar-stream.ts';
import type { Place } from './workspace-place.ts';

/** More than this is sent as any other update: it is packed in memory here, and its paths are asked for one by one. */
const mostBytes = 4 * 1024 * 1024;
const mostPaths = 300;

/** What was sent to a place before, as the host remembers it. */
export interface SentBefore {
  readonly known: Workspace;
  readonly manifest: Manifest;
}

/** Asks a guest whether a workspace is as it was sent; undefined when that is not to be asked. */
export async function askQuickly(
  { guest, vm, workspace: { guestPath }, policy, fullHistory }: Place,
  { known, manifest }: SentBefore,
): Promise<QuickExchange | undefined> {
  if (known.token === undefined || manifest.texts === undefined || policy === 'overwrite') return undefined;
  if (fullHistory && manifest.commits !== undefined) return undefined;
  const directories = new Set(['', ...[...manifest.files.keys()].flatMap(parentsOf)]);
  const { token } = known;
  return QuickExchange.open({ guest, guestPath, vmName: vm.name }, { token, directories: [...directories] });
}

/**
 * Sends a small change of files to a workspace in which nothing seems to have happened. Undefined when it is another
 * change than that, or when the guest has something else at one of its paths: nothing has happened then.
 */
export async function sendQuickly(
  context: WorkspaceContext,
  place: Place & SentBefore & { readonly exchange: QuickExchange },
  tree: Inspected,
  operation: Operation,
): Promise<Sent | undefined> {
  const { known, manifest, exchange } = place;
  if (!isPlain(tree, manifest)) return undefined;
  const token = randomUUID();
  const { fullHistory } = place;
  const drafted = { manifest, previousHead: known.head, fullHistory, snapshot: tree.snapshot };
  const draft = tree.draft ?? (await draftUpdate(tree, tree.scratch, drafted));
  if (!draft.isIndexSame || draft.history.missing?.length !== 0) return undefined;
  const update = await buildUpdate(tree, tree.scratch, {
    draft,
    changes: [],
    findIgnored: async () => [],
    isHeadLost: false,
    policy: 'stop',
    token,
    hasNested: false,
  });
  if ('conflicts' in update || update.movesHead || update.needsGit) return undefined;
  const asked = pathsOf(update);
  if (!asked || update.totalBytes > mostBytes) return undefined;
  const workspace = record(context, place, { tree, baseTree: update.baseTree });
  sending(operation, update);
  const archive = await packed(update);
  const found = archive && (await exchange.offer(archive, asked, operation.signal));
  if (!found || !isAsSent(found, { manifest, update })) return undefined;
  await failpoint('update arrived');
  operation.signal.throwIfAborted();
  await announceSend(context, { token, workspace }, update.manifest);
  await failpoint('send announced');
  await exchange.carryOut();
  await failpoint('tree in place');
  await concludeSend(context, { token, workspace }, true);
  return { tree, shipment: update, workspace, nested: [] };
}

function isPlain({ repository, state, submodules }: Inspected, { texts }: Manifest): boolean {
  if (submodules.length > 0 || promisorRemote(repository.config) !== undefined) return false;
  const detachment = state.files.find(({ path }) => path === detachmentFile)?.bytes.toString('latin1');
  const paths = [...state.files.map(({ path }) => path), ...Object.keys(texts ?? {})];
  return !paths.some(isUnderWayFile) && detachment === texts?.[detachmentFile];
}

/** Everything that is written, removed, or on the way there; undefined when it is too much, or cannot be asked for. */
function pathsOf({ plan }: Update): RawPath[] | undefined {
  const own = [...plan.write, ...plan.remove, ...plan.permissions];
  if (own.length > mostPaths) return undefined;
  const paths = [...new Set([...own, ...own.flatMap(parentsOf)])];
  return paths.length > mostPaths || paths.some((path) => path.includes('\n')) ? undefined : paths;
}

/** Undefined when a file changed meanwhile. */
async function packed({ entries }: Update): Promise<Buffer | undefined> {
  try {
    const pieces: Buffer[] = [];
    for await (const piece of packedPieces(tarStream(entries))) pieces.push(piece);
    return Buffer.concat(pieces);
  } catch (error) {
    if (error instanceof FileChangedError) return undefined;
    throw error;
  }
}

const typeMask = 0o170000;
const fileType = 0o100000;
const directoryType = 0o040000;

/** Whether a guest has at the paths of an update what it was sent, nothing at new ones, and directories on the way. */
function isAsSent(
  { mark, paths }: FoundPaths,
  { manifest, update: { plan } }: { readonly manifest: Manifest; readonly update: Update },
): boolean {
  const own = [...plan.write, ...plan.remove, ...plan.permissions];
  const isOwn = new Set(own);
  const areFiles = own.every((path) => {
    const sent = manifest.files.get(path);
    const found = paths.get(path);
    return sent && found ? isFileAsSent(found, sent, mark) : !sent && !found;
  });
  const onTheWay = own.flatMap(parentsOf);
  return (
    areFiles &&
    onTheWay.every((path) => {
      const found = paths.get(path);
      return !isOwn.has(path) && (found === undefined || (found.mode & typeMask) === directoryType);
    })
  );
}

/**
 * As git tells it, by size and time; besides, the time of the last change to a file, which nobody can set, must not be
 * later than the mark's.
 */
function isFileAsSent(found: FoundThere, sent: SentFile, mark: FoundThere): boolean {
  if ((found.mode & typeMask) !== fileType || !/^100/.test(sent.mode)) return false;
  const isExecutable = (found.mode & 0o100) !== 0;
  return (
    found.sizeBytes === sent.sizeBytes &&
    isExecutable === (sent.mode === '100755') &&
    found.ctimeSeconds <= mark.ctimeSeconds &&
    (sent.placedSeconds === undefined || found.mtimeSeconds === sent.placedSeconds)
  );
}
