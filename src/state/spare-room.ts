import { randomFillSync } from 'node:crypto';
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';

/** A write-ahead log, a note of where the engine is, and directories by which something is deleted. */
const spareBytes = 1024 * 1024;
const chunkBytes = 64 * 1024;

/**
 * Leaves a file beside a database that is closed, for the next engine to make room by: on a disk that is full to its
 * last block it could not begin to delete anything. Of a disk that is nearly full it takes what there is.
 */
export function leaveSpareRoom(path: string): void {
  try {
    // Zeros would take no room where the filesystem compresses.
    const chunk = randomFillSync(Buffer.alloc(chunkBytes));
    const file = openSync(spare(path), 'w', 0o600);
    try {
      for (let at = 0; at < spareBytes; at += chunkBytes) writeSync(file, chunk);
    } finally {
      closeSync(file);
    }
  } catch {
    // What could be had is there, and an engine that has room needs none of it.
  }
}

/** To be called when the state directory is ours, before anything is written there. */
export function useSpareRoom(path: string): void {
  try {
    rmSync(spare(path), { force: true });
  } catch {
    // A filesystem that has become read-only, say: whoever writes next is told.
  }
}

function spare(path: string): string {
  return `${path}-spare`;
}
