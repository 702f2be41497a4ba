/**
 * Why packed data cannot be unpacked, in words that follow its name: `is truncated: its xz data ends early`. Whoever
 * reads it knows what it is and turns this into an error for people.
 */
export class PackedRefusal extends Error {
  override readonly name = 'PackedRefusal';
}
