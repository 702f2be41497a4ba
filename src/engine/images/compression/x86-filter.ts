/** Whether a branch may be near an opcode that was seen `n` of the last bytes ago, by the bits of those seen. */
const mayFollow = [true, true, true, false, true, false, false, false] as const;
/** Which of the bytes in front an opcode seen before shares with the address, by the same bits. */
const sharedByte = [0, 1, 2, 2, 3, 3, 3, 3] as const;
/** An opcode and its address. */
const branchBytes = 5;

/**
 * Takes back xz's x86 filter, which turned the relative addresses of CALL and JMP into absolute ones. It works on a
 * stream: the last bytes of each piece are held back until it is known what follows.
 */
export class X86Filter {
  #position: number;
  #held: Buffer = Buffer.alloc(0);
  /** Which of the last three bytes looked like an opcode, newest in the lowest bit */
  #seen = 0;

  /** `start` is added to all positions; 0 unless the filter says otherwise. */
  constructor(start = 0) {
    this.#position = start;
  }

  push(piece: Buffer): Buffer {
    const bytes = Buffer.concat([this.#held, piece]);
    const done = bytes.length < branchBytes ? 0 : this.#restore(bytes);
    this.#position = (this.#position + done) >>> 0;
    this.#held = bytes.subarray(done);
    return bytes.subarray(0, done);
  }

  /** What was held back: too short for a branch. */
  end(): Buffer {
    return this.#held;
  }

  /** Restores addresses in place and returns how many bytes are final. */
  #restore(bytes: Buffer): number {
    const limit = bytes.length - (branchBytes - 1);
    let seen = this.#seen;
    // Where the last opcode was, counted so that what `seen` says of the piece before stays true.
    let last = -1;
    let at = 0;
    for (; at < limit; at++) {
      if ((bytes[at]! & 0xfe) !== 0xe8) continue;
      const distance = at - last;
      last = at;
      if (distance > 3) seen = 0;
      else {
        seen = (seen << (distance - 1)) & 7;
        if (seen !== 0 && (!mayFollow[seen] || isSignByte(bytes[at + 4 - sharedByte[seen]!]!))) {
          seen = ((seen << 1) | 1) & 7;
          continue;
        }
      }
      if (!isSignByte(bytes[at + 4]!)) {
        seen = ((seen << 1) | 1) & 7;
        continue;
      }
      bytes.writeInt32LE(this.#relative(bytes.readUInt32LE(at + 1), { at, seen }), at + 1);
      at += 4;
    }
    const distance = at - last;
    this.#seen = distance > 3 ? 0 : (seen << (distance - 1)) & 7;
    return at;
  }

  #relative(absolute: number, where: { readonly at: number; readonly seen: number }): number {
    const next = this.#position + where.at + branchBytes;
    let source = absolute;
    for (;;) {
      const address = (source - next) >>> 0;
      const shift = 24 - sharedByte[where.seen]! * 8;
      if (where.seen === 0 || !isSignByte((address >>> shift) & 0xff))
        // Addresses have 25 bits, the highest of which is the sign.
        return ((address & 0x1ffffff) << 7) >> 7;
      source = (address ^ (2 ** (shift + 8) - 1)) >>> 0;
    }
  }
}

/** Highest bytes of addresses near enough to be worth turning. */
function isSignByte(byte: number): boolean {
  return byte === 0 || byte === 0xff;
}
