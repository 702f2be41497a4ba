import {
  readRecordFile,
  recordHead,
  recordSpans,
  recordPieces,
  writeRecordFile,
  type ManifestPlace,
} from './record-files.ts';
import type { RawPath } from '../host-tree/raw-path.ts';

/** One file as a guest was sent it. */
export interface SentFile {
  /** Octal, as git has it */
  readonly mode: string;
  /** Git's name of its content */
  readonly oid: string;
  /** Absent when only the guest could be asked, which keeps git's modes alone */
  readonly permissions?: number;
  readonly sizeBytes?: number;
  /** Of the host's file; see `stampOf` */
  readonly stamp?: string;
}

/** What a guest's workspace was made of, so that the next `prepare` sends what is different. */
export interface Manifest {
  /** Git tree of the files; a manifest of another one than the workspace's is not used */
  readonly baseTree: string;
  readonly files: ReadonlyMap<RawPath, SentFile>;
  /** Commits whose objects the guest has, all that HEAD's history had then; absent: all of HEAD's history */
  readonly commits?: readonly string[];
  /** Of the tips of that history; see `describeHistory`. Absent when nobody knows. */
  readonly history?: string;
  /** Tells one index from the next; absent when there was none, or nobody knows */
  readonly index?: string;
  /** Index entries of paths where the index is not as the file is: `mode oid stage`, joined by commas, empty for none */
  readonly staged?: Readonly<Record<RawPath, string>>;
  /** Small files of the repository, by their path in it; latin1. Absent when nobody knows. */
  readonly texts?: Readonly<Record<string, string>>;
}

/**
 * Reads the manifest of a sending; undefined when it is missing or not what it should be: the guest can be asked
 * instead.
 */
export async function readManifest(
  place: ManifestPlace,
  { token, baseTree }: { readonly token?: string; readonly baseTree: string },
): Promise<Manifest | undefined> {
  return (await fetchManifest(place, { token, baseTree }))?.parse();
}

/** A manifest that is here and takes a moment to be understood. */
export interface UnreadManifest {
  /** About how many files it has */
  readonly size: number;
  /** As `readManifest` */
  readonly parse: () => Manifest | undefined;
}

/** Reads the manifest of a sending for somebody who has something to do meanwhile. */
export async function fetchManifest(
  place: ManifestPlace,
  { token, baseTree }: { readonly token?: string; readonly baseTree: string },
): Promise<UnreadManifest | undefined> {
  const bytes = token === undefined ? undefined : await readRecordFile(place, token, 'manifest');
  if (!bytes) return undefined;
  let size = 0;
  for (let at = bytes.indexOf(0); at !== -1; at = bytes.indexOf(0, at + 1)) size++;
  const parse = (): Manifest | undefined => {
    const manifest = parseManifest(bytes);
    return manifest?.baseTree === baseTree ? manifest : undefined;
  };
  return { size, parse };
}

/** See `writeRecordFile`. */
export async function writeManifest(place: ManifestPlace, token: string, manifest: Manifest): Promise<void> {
  await writeRecordFile(place, token, { kind: 'manifest', pieces: manifestPieces(manifest) });
}

const version = 'banger manifest 1';

function manifestPieces({ files, ...head }: Manifest): AsyncGenerator<Buffer> {
  const lines = function* (): Generator<string> {
    for (const [path, { mode, oid, permissions, sizeBytes, stamp }] of files)
      yield `${mode} ${oid} ${permissions ?? '-'} ${sizeBytes ?? '-'} ${stamp ?? '-'}\t${path}`;
  };
  return recordPieces({ version, ...head }, lines());
}

/** Values are read from the bytes one by one: parts of one long text would keep all of it in memory. */
function parseManifest(bytes: Buffer): Manifest | undefined {
  const head = recordHead<Head>(bytes, version);
  if (!head) return undefined;
  const files = new Map<RawPath, SentFile>();
  const modes = new Map<string, string>();
  const textAt = (from: number, to: number): string => bytes.toString('latin1', from, to);
  for (const [at, end] of recordSpans(bytes)) {
    const tab = bytes.indexOf(0x09, at);
    const [mode, oid, permissions, sizeBytes, stamp] = textAt(at, tab).split(' ');
    if (stamp === undefined || tab > end) return undefined;
    const oidAt = at + mode!.length + 1;
    if (!modes.has(mode!)) modes.set(mode!, mode!);
    files.set(textAt(tab + 1, end), {
      mode: modes.get(mode!)!,
      oid: textAt(oidAt, oidAt + oid!.length),
      permissions: permissions === '-' ? undefined : Number(permissions),
      sizeBytes: sizeBytes === '-' ? undefined : Number(sizeBytes),
      stamp: stamp === '-' ? undefined : textAt(tab - stamp.length, tab),
    });
  }
  const { baseTree, commits, history, index, staged, texts } = head;
  return { baseTree, files, commits, history, index, staged, texts };
}

type Head = Omit<Manifest, 'files'> & { readonly version: string };
