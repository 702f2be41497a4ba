import { parseOsRelease, type RootfsFacts } from '../layers/rootfs-facts.ts';
import { Ext4Reader } from './ext4-reader.ts';
import { findInode } from './walk.ts';

const maxOsReleaseBytes = 64 * 1024;
/** Far more than a few paths take, and seconds at most where they lead through directories of gigabytes */
const factsBudgetBytes = 256 * 1024 * 1024;

/** What the engine wants to know of a filesystem that it did not write. Throws when it is none that can be read. */
export async function readFactsOfFile(path: string): Promise<RootfsFacts> {
  const reader = await Ext4Reader.open(path, factsBudgetBytes);
  try {
    return await readFacts(reader);
  } finally {
    await reader.close();
  }
}

async function readFacts(reader: Ext4Reader): Promise<RootfsFacts> {
  const shell = await findInode(reader, '/bin/sh');
  return {
    osRelease: parseOsRelease(
      (await smallFile(reader, '/etc/os-release')) ?? (await smallFile(reader, '/usr/lib/os-release')) ?? '',
    ),
    hasShell: shell?.kind === 'file' && (shell.mode & 0o111) !== 0,
  };
}

async function smallFile(reader: Ext4Reader, path: string): Promise<string | undefined> {
  const inode = await findInode(reader, path);
  if (inode?.kind !== 'file') return undefined;
  const parts: Buffer[] = [];
  let length = 0;
  for await (const piece of reader.contents(inode)) {
    parts.push(piece);
    length += piece.length;
    if (length >= maxOsReleaseBytes) break;
  }
  return Buffer.concat(parts).subarray(0, maxOsReleaseBytes).toString('utf8');
}
