import type { Guest } from '../../guest.ts';
import { submoduleMode } from '../host-tree/index-entries.ts';
import { splitRaw, type RawPath } from '../host-tree/raw-path.ts';
import type { SentFile } from '../sending/manifest.ts';

/** In a guest; see `guest/look.c`. Guests that were started by an older build have none, and git looks. */
export const lookProgram = '/run/banger/bin/look';

/** The disk of a VM may have been put back to an earlier time, with what was sent then. */
const lookScript = `
read -r sent <"$1/.git/banger-sent" && [ "$sent" = "$2" ] && exec ${lookProgram} "$1" "$3"
exit 3
`;

const gitModes = { f: '100644', x: '100755', l: '120000' } as const;

/** What is to be looked at: a workspace, and the files it was sent. */
export interface QuickLook {
  readonly guest: Guest;
  readonly guestPath: string;
  /** Of the sending whose files these are */
  readonly token?: string;
  readonly files: ReadonlyMap<RawPath, SentFile>;
  readonly signal: AbortSignal;
}

/**
 * Whether a workspace is as it was sent: nobody has changed, added or removed a file in it, committed, staged or begun
 * anything. It takes a third of the time that git needs for that, and one exchange.
 *
 * False when it is not, or when that cannot be told like this: then git has to look.
 */
export async function isAsSent({ guest, guestPath, token, files, signal }: QuickLook): Promise<boolean> {
  if ([...files.values()].some(({ mode }) => mode === submoduleMode)) return false;
  const words = ['sh', '-c', lookScript, 'look', guestPath, token ?? '', String(mostEntries(files.size))];
  const { exit, stdout } = await guest.runToolbox(words, { signal });
  return exit.code === 0 && tellsNothingNew(stdout, files);
}

/** More than that is what git ignores there: going through it would take longer than git does without it. */
export function mostEntries(sent: number): number {
  return Math.ceil(sent * 1.25) + 2000;
}

/** What a guest answers may be anything: whatever is not known to be as sent is git's to look at. */
function tellsNothingNew(output: Buffer, files: QuickLook['files']): boolean {
  const records = splitRaw(output);
  if (records.pop() !== '.') return false;
  const changed = new Set<RawPath>();
  const present = new Set<RawPath>();
  for (const record of records) {
    const path = record.slice(1);
    if (/^[dn]/.test(record)) changed.add(path);
    else if (record.startsWith('e')) present.add(path);
    else if (!isSameFile(record, files)) return false;
  }
  const expected = sentPathsIn(changed, files);
  return (
    expected.size === changed.size &&
    [...expected.values()].every((names) => names.every((path) => present.has(path)))
  );
}

/** `record`: letter, SHA-1 and path of a file. What git is to ignore may be another now. */
function isSameFile(record: string, files: QuickLook['files']): boolean {
  const [, letter, oid, path] = /^([fxl])([0-9a-f]{40})([^]+)$/.exec(record) ?? [];
  if (path === undefined || /(?:^|\/)\.git(?:ignore|attributes)$/.test(path)) return false;
  const sent = files.get(path);
  return sent?.oid === oid && sent?.mode === gitModes[letter as keyof typeof gitModes];
}

/**
 * What was sent in each of these directories, by path; directories in them with a slash. What else is there has its own
 * time of change: it was there when all was as sent, or is told of. Directories that nothing was sent to are left out.
 */
export function sentPathsIn(
  directories: ReadonlySet<RawPath>,
  files: QuickLook['files'],
): ReadonlyMap<RawPath, readonly RawPath[]> {
  const names = new Map<RawPath, RawPath[]>();
  if (directories.size === 0) return names;
  const note = (path: RawPath, parent: RawPath): void => {
    if (!directories.has(parent)) return;
    const known = names.get(parent);
    if (known) known.push(path);
    else names.set(parent, [path]);
  };
  const seen = new Set<RawPath>(['']);
  let parent = '';
  for (const path of files.keys()) {
    // Most files are beside the one before.
    const length = path.lastIndexOf('/') + 1;
    if (length !== parent.length || !path.startsWith(parent)) parent = path.slice(0, length);
    note(path, parent);
    // From there up, as far as nobody has been.
    for (let each = parent; !seen.has(each);) {
      seen.add(each);
      const above = each.slice(0, each.lastIndexOf('/', each.length - 2) + 1);
      note(each, above);
      each = above;
    }
  }
  return names;
}
