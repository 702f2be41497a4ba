import {
  readRecordFile,
  recordHead,
  recordLines,
  recordText,
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
  const text = token === undefined ? undefined : await readRecordFile(place, token, 'manifest');
  const manifest = text === undefined ? undefined : parseManifest(text);
  return manifest?.baseTree === baseTree ? manifest : undefined;
}

/** See `writeRecordFile`. */
export async function writeManifest(place: ManifestPlace, token: string, manifest: Manifest): Promise<void> {
  await writeRecordFile(place, token, { kind: 'manifest', text: manifestText(manifest) });
}

const version = 'banger manifest 1';

function manifestText({ files, ...head }: Manifest): string {
  const lines = [...files].map(([path, { mode, oid, permissions, sizeBytes, stamp }]) => {
    return `${mode} ${oid} ${permissions ?? '-'} ${sizeBytes ?? '-'} ${stamp ?? '-'}\t${path}`;
  });
  return recordText({ version, ...head }, lines);
}

function parseManifest(text: string): Manifest | undefined {
  const head = recordHead<Head>(text, version);
  if (!head) return undefined;
  const files = new Map<RawPath, SentFile>();
  for (const record of recordLines(text)) {
    const tab = record.indexOf('\t');
    const [mode, oid, permissions, sizeBytes, stamp] = record.slice(0, tab).split(' ');
    files.set(record.slice(tab + 1), {
      mode: mode!,
      oid: oid!,
      permissions: permissions === '-' ? undefined : Number(permissions),
      sizeBytes: sizeBytes === '-' ? undefined : Number(sizeBytes),
      stamp: stamp === '-' ? undefined : stamp,
    });
  }
  const { baseTree, commits, history, index, staged, texts } = head;
  return { baseTree, files, commits, history, index, staged, texts };
}

type Head = Omit<Manifest, 'files'> & { readonly version: string };
