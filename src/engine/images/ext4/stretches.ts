/** Bytes of a file that are stored; a sparse file has several stretches, a plain one has one. */
export interface Stretch {
  readonly offset: number;
  readonly length: number;
}

/** Those of one file, ascending and not overlapping. An array is one; so is a list that takes less memory. */
export interface Stretches extends Iterable<Stretch> {
  readonly length: number;
}

/** How many bytes are stored. */
export function storedBytes(stretches: Iterable<Stretch>): number {
  let bytes = 0;
  for (const { length } of stretches) bytes += length;
  return bytes;
}
