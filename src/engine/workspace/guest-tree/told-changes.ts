import { BangerError } from '../../../errors.ts';
import { submoduleMode } from '../host-tree/index-entries.ts';
import { isTreePath, splitRaw, type RawPath } from '../host-tree/raw-path.ts';
import type { Manifest, UnreadManifest } from '../sending/manifest.ts';
import { lookProgram, mostEntries, sentPathsIn } from './quick-look.ts';

/** What was sent to a workspace, by which what its guest tells of it is understood. */
export interface SentTree extends UnreadManifest {
  /** Of the sending whose files these are */
  readonly token?: string;
}

type Files = Manifest['files'];

/** Paths at which a workspace may be another than it was sent; nowhere else is it. */
export interface ToldChanges {
  /** Sent, and still there in some way */
  readonly present: readonly RawPath[];
  /** Not sent, whether git ignores them or not */
  readonly added: readonly RawPath[];
  readonly gone: readonly RawPath[];
  /** Git's attributes may say how to read them */
  readonly hasAttributes: boolean;
  /** What was sent */
  readonly files: Files;
}

/** Where more has changed, git looks at all of it, which is as quick then. */
const mostPaths = 1000;
const mostBytes = 64 * 1024;

/** What a look prints is followed by this; by the former only when it came to its end. */
const marks = ['\0!told\0', '\0!\0'] as const;

/**
 * Has a guest tell at which paths a workspace may differ from what was sent. Parameters: which sending that was, and how
 * many files and directories are gone through at most (0: none); they are shifted away, and the next is the workspace.
 *
 * The disk of a VM may have been put back to an earlier time, with what was sent then.
 */
export const tellScript = `
token=$1 most=$2
shift 2
if [ "$most" != 0 ] && [ -f "$1/.git/banger-sent" ] && read -r sent <"$1/.git/banger-sent" && [ "$sent" = "$token" ] &&
  ${lookProgram} -c "$1" "$most" 2>/dev/null; then printf '\\0!told\\0'
else printf '\\0!\\0'
fi
`;

/** The first parameters of `tellScript`. */
export function tellWords(sent: SentTree | undefined): [string, string] {
  return [sent?.token ?? '', sent ? String(mostEntries(sent.size)) : '0'];
}

/** More than a look prints, whatever has changed. */
const mostToldBytes = 8 * 1024 * 1024;

/** Takes what `tellScript` prints from what comes. */
export class ToldReader {
  #all: Buffer = Buffer.alloc(0);
  readonly #files: Files | undefined;

  /** `files`: what was sent, where that is known */
  constructor(files: Files | undefined) {
    this.#files = files;
  }

  /**
   * Returns, once all of it is here, what comes after it, and what was told: undefined where git has to look; see
   * `guest/look.c`.
   */
  push(chunk: Buffer): { readonly rest: Buffer; readonly told: ToldChanges | undefined } | undefined {
    const from = Math.max(0, this.#all.length - marks[0].length);
    this.#all = this.#all.length === 0 ? chunk : Buffer.concat([this.#all, chunk]);
    for (const mark of marks) {
      const at = this.#all.indexOf(mark, from, 'latin1');
      if (at === -1) continue;
      const rest = this.#all.subarray(at + mark.length);
      const files = mark === marks[0] ? this.#files : undefined;
      return { rest, told: files && parseTold(this.#all.subarray(0, at), files) };
    }
    if (this.#all.length <= mostToldBytes) return undefined;
    throw new BangerError('command_failed', 'The guest tells of more changes than can be taken');
  }
}

/** What a guest answers may be anything: whatever is odd is git's to look at. */
function parseTold(output: Buffer, files: Files): ToldChanges | undefined {
  const records = splitRaw(output);
  if (records.pop() !== '.') return undefined;
  const told = new Set<RawPath>();
  const changed = new Set<RawPath>();
  const unknown = new Set<RawPath>();
  const names = new Set<RawPath>();
  for (const record of records) {
    const path = record.slice(1);
    if (/^[fl]/.test(record)) told.add(path);
    else if (record.startsWith('d')) changed.add(path);
    else if (record.startsWith('n')) unknown.add(path);
    else if (record.startsWith('e')) names.add(path);
    else return undefined;
  }
  if (mayLackRules(changed, names, files)) return undefined;
  const gone = findGone(new Set([...changed, ...unknown]), names, files);
  const paths = [...told, ...gone];
  const bytes = paths.reduce((sum, path) => sum + path.length + 1, 0);
  if (paths.length > mostPaths || bytes > mostBytes || ![...told].every(isTreePath)) return undefined;
  // By other rules, others may be ignored now, or read in another way, of which nothing is told.
  const rules = paths.filter((path) => rulesName.test(path));
  if (rules.some((path) => files.has(path) || !unknown.has(path.replace(rulesName, '$1')))) return undefined;
  if (gone.some((path) => told.has(path))) return undefined;
  const present = [...told].filter((path) => files.has(path));
  const added = [...told].filter((path) => !files.has(path));
  let hasAttributes = rules.some(isAttributes);
  for (const [path, { mode }] of files) {
    if (mode === submoduleMode) return undefined;
    hasAttributes ||= isAttributes(path);
  }
  return { present, added, gone, hasAttributes, files };
}

/**
 * Whether something of before is in a directory that is not as then and of which nothing was sent: rules that went from it,
 * which ignored all of it, would be told of by nobody.
 */
function mayLackRules(changed: ReadonlySet<RawPath>, names: ReadonlySet<RawPath>, files: Files): boolean {
  const sent = sentPathsIn(changed, files);
  const isAllOthers = (directory: RawPath): boolean => (sent.get(directory)?.length ?? 0) === 0;
  const others = new Set([...changed].filter(isAllOthers));
  return others.size > 0 && [...names].some((name) => others.has(name.replace(/[^/]*\/?$/, '')));
}

const isAttributes = (path: RawPath): boolean => path.endsWith('.gitattributes');

/** Files that say what git does with those beside and below them. */
const rulesName = /(^|\/)\.git(?:ignore|attributes)$/;

/** Of what was sent, that which is in these directories no more, or in directories that are not. */
function findGone(changed: ReadonlySet<RawPath>, names: ReadonlySet<RawPath>, files: Files): RawPath[] {
  const missing = [...sentPathsIn(changed, files).values()].flat().filter((path) => !names.has(path));
  const directories = missing.filter((path) => path.endsWith('/'));
  const gone = missing.filter((path) => !path.endsWith('/'));
  if (directories.length === 0) return gone;
  const below = [...files.keys()].filter((path) =>
    directories.some((directory) => path.startsWith(directory)),
  );
  return [...new Set([...gone, ...below])];
}
