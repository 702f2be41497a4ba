import type { Timestamp } from './nodes.ts';

/** A time as ext4 has it: 34 bits of seconds around 1970 (1901 to 2446) and 30 of nanoseconds. */
export interface InodeTime {
  /** The lower 32 bits of the seconds */
  readonly low: number;
  /** Nanoseconds, and the epoch of 2^32 seconds in the lowest two bits */
  readonly extra: number;
}

const minSeconds = -(2 ** 31);
const maxSeconds = 2 ** 31 - 1 + 3 * 2 ** 32;

/** What lies outside of what ext4 can have moves to the edge. */
export function encodeTime(time: Timestamp): InodeTime {
  const seconds = Math.min(Math.max(time.seconds, minSeconds), maxSeconds);
  const epoch = Math.floor((seconds - minSeconds) / 2 ** 32);
  return { low: seconds >>> 0, extra: ((time.nanoseconds << 2) | epoch) >>> 0 };
}
