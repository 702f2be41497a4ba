import { BangerError } from '../../../errors.ts';
import { formatBytes } from '../../../state/units.ts';
import type { GuestPlace } from './send-tree.ts';
import type { Shipment } from './shipment.ts';
import { updateNames } from './update-names.ts';

/** What is sent has no room in a VM; nothing was sent. */
export class NoRoomError extends BangerError {
  /** As `--disk` takes it: a size with which there would be room */
  readonly diskSize: string;

  constructor(message: string, options: { readonly hint: string; readonly diskSize: string }) {
    super('invalid_state', message, options);
    this.diskSize = options.diskSize;
  }
}

/** What needs less is sent without a question: that it has no room is found out as soon as it is asked. */
const leastBytes = 8 * 1024 * 1024;
const leastFiles = 1000;
const blockBytes = 4096;
const gib = 1024 ** 3;

/**
 * Room of the filesystem that a path is on, or will be: free blocks, their size, inodes that are free, all inodes, all blocks.
 * What an interrupted sending left there is in nobody's way, and goes first.
 */
const roomScript = `
rm -rf "$1.banger-new" "$1/${updateNames.part}"
at=$1
while [ ! -d "$at" ] && [ -n "$at" ]; do at=\${at%/*}; done
exec stat -f -c '%f %S %d %c %b' "\${at:-/}"
`;

/**
 * Throws `NoRoomError` when a guest's disk has no room for a shipment, of which so many copies are there at the same
 * time. Says nothing where it cannot be told. The caller holds the lock of the VM's workspaces.
 */
export async function checkRoom(
  { guest, guestPath, vmName }: GuestPlace,
  { entries, made }: Pick<Shipment, 'entries' | 'made'>,
  { copies, signal }: { readonly copies: number; readonly signal: AbortSignal },
): Promise<void> {
  const { count, bytes: eachBytes } = roomOf(entries);
  const bytes = copies * eachBytes + made.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  if (bytes < leastBytes && count < leastFiles) return;
  const { stdout } = await guest.runToolbox(['sh', '-c', roomScript, 'banger', guestPath], { signal });
  const numbers = /^(\d+) (\d+) (\d+) (\d+) (\d+)\n$/.exec(stdout.toString('latin1'))?.slice(1).map(Number);
  if (!numbers) return;
  const [blocks, size, freeInodes, inodes, allBlocks] = numbers as [number, number, number, number, number];
  const free = blocks * size;
  if (bytes <= free && (inodes === 0 || count <= freeInodes)) return;
  const isFull = bytes > free;
  // Inodes come with the size: twice the disk has twice as many.
  const wanted = isFull ? allBlocks * size + bytes - free : (allBlocks * size * (inodes + count)) / inodes;
  const diskSize = `${Math.ceil((wanted * 1.1) / gib)}G`;
  const what = isFull
    ? `needs ${formatBytes(bytes)} in VM "${vmName}", where ${formatBytes(free)} are free`
    : `needs ${count} files in VM "${vmName}", where there is room for ${freeInodes} more`;
  throw new NoRoomError(`"${guestPath}" ${what}; nothing was sent`, {
    hint: `Make room there (see: banger vm exec ${vmName} -- df -h), or give it a larger disk: banger vm set ${vmName} --disk ${diskSize}`,
    diskSize,
  });
}

/** How many there are, and what their content takes of a disk. */
function roomOf(entries: Shipment['entries']): { readonly count: number; readonly bytes: number } {
  let count = 0;
  let blocks = 0;
  for (const { content } of entries) {
    const bytes =
      content.kind === 'bytes' ? content.bytes.length : content.kind === 'file' ? content.sizeBytes : 0;
    count++;
    blocks += Math.ceil(bytes / blockBytes);
  }
  return { count, bytes: blocks * blockBytes };
}
