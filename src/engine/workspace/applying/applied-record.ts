import { randomUUID } from 'node:crypto';
import { errnoOf } from '../../../errors.ts';
import type { GuestWorkspace } from '../guest-tree/guest-changes.ts';
import type { GitEntry } from '../guest-tree/changes-format.ts';
import { complaint } from '../guest-tree/guest-git.ts';
import { isTreePath, type RawPath } from '../host-tree/raw-path.ts';
import {
  readRecordFile,
  recordHead,
  recordPieces,
  recordSpans,
  removeRecord,
  renameRecord,
  writeRecordFile,
  type ManifestPlace,
} from '../sending/record-files.ts';
import type { Applied, AppliedPath } from './since-applied.ts';

/** Of a sending, beside its manifest. */
export interface AppliedRecord extends Applied {
  /** Git tree of what was sent */
  readonly baseTree: string;
  /** What the guest has in `markName` */
  readonly mark: string;
}

/** A sending: of its base, what was applied is told. */
interface Sending {
  readonly token?: string;
  readonly baseTree: string;
}

/** In a guest's repository: names the last apply of which everything is on its disk. */
const markName = '.git/banger-applied';

const markScript = `
cd "$1" && echo "$2" >${markName}.new && mv -f ${markName}.new ${markName} && { sync -f . 2>/dev/null || sync; }
`;

/**
 * Reads what was applied of a sending; undefined when nothing was, or the guest is not the one that it was applied of: its
 * disk may have been put back to an earlier time, and what is gone there was taken back by nobody.
 */
export async function readApplied(
  place: ManifestPlace,
  { token, baseTree }: Sending,
  { guest, guestPath, signal }: Pick<GuestWorkspace, 'guest' | 'guestPath' | 'signal'>,
): Promise<AppliedRecord | undefined> {
  if (token === undefined) return undefined;
  const files = await Promise.all(kinds.map((kind) => readRecordFile(place, token, kind)));
  const records = files.flatMap((bytes) => (bytes && parse(bytes)) ?? []);
  const ours = records.filter((record) => record.baseTree === baseTree);
  if (ours.length === 0) return undefined;
  const found = await guest.runToolbox(['cat', `${guestPath}/${markName}`], { signal });
  if (found.exit.code !== 0) return undefined;
  const mark = found.stdout.toString('latin1').trim();
  return ours.find((record) => record.mark === mark);
}

const kinds = ['applied', 'applied-next'] as const;

/** A disk has this long to take what is written; a guest that hangs is not waited for longer. */
const markTimeoutMs = 60_000;

/**
 * Records what was applied, in place of what was recorded before. First all of it is on the guest's disk, under a new
 * mark: what a guest lost when it was ended is not to look like something that it took back. Until then what was recorded
 * before counts. Says why it does not work, if so.
 */
export async function recordApplied(
  place: ManifestPlace,
  { token, baseTree }: Sending,
  {
    guest,
    guestPath,
    vmName,
    signal: cancelled,
    applied,
  }: Pick<GuestWorkspace, 'guest' | 'guestPath' | 'vmName' | 'signal'> & { readonly applied: Applied },
): Promise<string | undefined> {
  if (token === undefined) return 'it was sent by an older build';
  if (applied.paths.size === 0) {
    for (const kind of kinds) await removeRecord(place, token, kind);
    return undefined;
  }
  const mark = randomUUID();
  const pieces = piecesOf({ ...applied, baseTree, mark });
  if (!(await writeRecordFile(place, token, { kind: 'applied-next', pieces })))
    return `"${place.directory}" cannot be written to`;
  // All of it is written here: Ctrl-C is for this alone by now.
  const signal = AbortSignal.any([cancelled, AbortSignal.timeout(markTimeoutMs)]);
  const marked = await guest
    .runToolbox(['sh', '-c', markScript, 'banger', guestPath, mark], { signal })
    .catch(() => undefined);
  if (!marked) return `VM "${vmName}" did not write it to its disk`;
  if (marked.exit.code !== 0) return `VM "${vmName}" cannot write it to its disk${complaint(marked)}`;
  // Where that does not work, it counts by its mark.
  await renameRecord(place, token, { from: 'applied-next', to: 'applied' }).catch((error: unknown) => {
    if (errnoOf(error) === undefined) throw error;
  });
  return undefined;
}

/** Records of the next sending what stays true of it. It counts when that is in place. */
export async function keepApplied(
  place: ManifestPlace,
  token: string,
  record: AppliedRecord | undefined,
): Promise<void> {
  if (record && record.paths.size > 0)
    await writeRecordFile(place, token, { kind: 'applied', pieces: piecesOf(record) });
}

const version = 'banger applied 2';

type Head = Omit<AppliedRecord, 'paths'> & { readonly version: string };

function piecesOf({ paths, ...head }: AppliedRecord): AsyncGenerator<Buffer> {
  const lines = [...paths].map(
    ([path, { how, ...each }]) =>
      `${[each.sent, each.guest, each.previous].map(entryText).join(' ')} ${how}\t${path}`,
  );
  return recordPieces({ version, ...head }, lines);
}

function entryText(entry: GitEntry | undefined): string {
  return entry ? `${entry.mode}:${entry.oid}` : '-';
}

function parse(bytes: Buffer): AppliedRecord | undefined {
  const head = recordHead<Head>(bytes, version);
  if (!head) return undefined;
  const paths = new Map<RawPath, AppliedPath>();
  for (const [from, to] of recordSpans(bytes)) {
    const line = bytes.toString('latin1', from, to);
    const [, entries, word, path] = /^(\S+ \S+ \S+) (marked|whole|ours)\t([^]+)$/.exec(line) ?? [];
    if (path === undefined || !isTreePath(path)) return undefined;
    const [sent, guest, previous] = entries!.split(' ').map(entryOf);
    paths.set(path, { sent, guest, previous, how: word as AppliedPath['how'] });
  }
  return { ...head, paths };
}

function entryOf(text: string): GitEntry | undefined {
  const [, mode, oid] = /^(\d{6}):([0-9a-f]{40,64})$/.exec(text) ?? [];
  return mode === undefined ? undefined : { mode, oid: oid! };
}
