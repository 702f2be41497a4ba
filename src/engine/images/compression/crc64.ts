/** ECMA-182, lowest bit first, in halves: a JavaScript integer has 32 bits to work on. */
const polynomialLow = 0xd7870f42;
const polynomialHigh = 0xc96c5795;

let tables: { readonly low: Int32Array; readonly high: Int32Array } | undefined;

/** The CRC-64 that xz uses, of data that comes in pieces. */
export class Crc64 {
  #low = -1;
  #high = -1;

  update(bytes: Buffer): void {
    const { low: lowTable, high: highTable } = (tables ??= makeTables());
    let low = this.#low;
    let high = this.#high;
    for (let at = 0; at < bytes.length; at++) {
      const index = (low ^ bytes[at]!) & 0xff;
      low = ((low >>> 8) | (high << 24)) ^ lowTable[index]!;
      high = (high >>> 8) ^ highTable[index]!;
    }
    this.#low = low;
    this.#high = high;
  }

  /** Eight bytes, lowest first. */
  digest(): Buffer {
    const bytes = Buffer.alloc(8);
    bytes.writeInt32LE(~this.#low, 0);
    bytes.writeInt32LE(~this.#high, 4);
    return bytes;
  }
}

function makeTables(): { low: Int32Array; high: Int32Array } {
  const made = { low: new Int32Array(256), high: new Int32Array(256) };
  for (let index = 0; index < 256; index++) {
    let low = index;
    let high = 0;
    for (let bit = 0; bit < 8; bit++) {
      const carry = low & 1;
      low = (low >>> 1) | (high << 31);
      high >>>= 1;
      if (carry === 0) continue;
      low ^= polynomialLow;
      high ^= polynomialHigh;
    }
    made.low[index] = low;
    made.high[index] = high;
  }
  return made;
}
