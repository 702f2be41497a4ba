import { Turns } from '../ext4/turns.ts';
import type { DirectoryEntry } from './directory.ts';

/** What is sorted or merged in one go, in a few milliseconds */
const partLength = 4096;

/** Entries in the order of the bytes of their names. A million take seconds, so that others get their turns. */
export async function sortedNames(entries: readonly DirectoryEntry[]): Promise<DirectoryEntry[]> {
  const turns = new Turns();
  let parts: DirectoryEntry[][] = [];
  for (let at = 0; at < entries.length; at += partLength) {
    parts.push(entries.slice(at, at + partLength).sort((left, right) => (isInOrder(left, right) ? -1 : 1)));
    await turns.share();
  }
  while (parts.length > 1) {
    const pairs: DirectoryEntry[][] = [];
    for (let at = 0; at < parts.length; at += 2) {
      pairs.push(await merged(parts[at] ?? [], parts[at + 1] ?? [], turns));
    }
    parts = pairs;
  }
  return parts[0] ?? [];
}

async function merged(
  left: readonly DirectoryEntry[],
  right: readonly DirectoryEntry[],
  turns: Turns,
): Promise<DirectoryEntry[]> {
  const result: DirectoryEntry[] = [];
  let from = 0;
  for (const [index, entry] of left.entries()) {
    for (let next = right[from]; next && !isInOrder(entry, next); next = right[++from]) result.push(next);
    result.push(entry);
    if (index % partLength === 0) await turns.share();
  }
  for (let at = from; at < right.length; at++) result.push(right[at]!);
  return result;
}

function isInOrder(left: DirectoryEntry, right: DirectoryEntry): boolean {
  return left.name < right.name;
}
