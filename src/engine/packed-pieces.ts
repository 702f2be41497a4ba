import { promisify } from 'node:util';
import { constants, gzip as gzipCallback } from 'node:zlib';
import { BulkMeter } from './optimizer.ts';

const gzip = promisify(gzipCallback);

/**
 * Shell words of the toolbox that unpack such a stream, to be followed by the words of the program that reads it.
 * The two share one processor: at equal rank each page through the pipe would be a switch between them, and emulation
 * pays dearly for those. The reader goes first, and so empties the whole pipe before it is filled again.
 */
export const unpackInto = `sh -c 'renice -n 5 -p $$ >/dev/null 2>&1; exec gunzip -c' |`;

/** Smaller pieces are gathered: each has a beginning and an end of its own. */
const memberBytes = 256 * 1024;
/** Of content, after which it is looked at how things go. */
export const stretchBytes = 4 * 1024 * 1024;
/** Stretches for which a choice stands before the other way is tried again: a link may change. */
const stretchesPerChoice = 16;
/** A packer that saves less has work for nothing. */
const worthwhileRatio = 0.9;

/** What packing means for one piece: stored pieces are framed alike, so that the reader need not be told. */
export type Packing = 'packed' | 'stored';

/** How one stretch went. */
export interface Stretch {
  readonly packing: Packing;
  /** Content in it, before packing */
  readonly bytes: number;
  /** What became of it */
  readonly packedBytes: number;
  readonly totalMs: number;
  /** Of that, how long the link kept us waiting */
  readonly waitedMs: number;
}

/**
 * Chooses whether packing pays, by what the link gives. A guest that is emulated takes bytes so slowly that packing
 * always does; one with a processor of its own takes them faster than we could pack. So no link is supposed to be
 * this or that: where packing is what everybody waits for, both are tried, and what was faster stays.
 */
export class PackingChoice {
  #packing: Packing = 'packed';
  /** Bytes a millisecond, of the stretch before the one that is tried */
  #compared: number | undefined;
  #stretchesLeft = 0;

  get packing(): Packing {
    return this.#packing;
  }

  note(stretch: Stretch): void {
    if (this.#stretchesLeft > 0) {
      this.#stretchesLeft--;
      if (this.#stretchesLeft > 0) return;
      this.#packing = 'packed';
      return;
    }
    const speed = stretch.bytes / Math.max(stretch.totalMs, 0.001);
    if (this.#compared !== undefined) {
      // What is kept is the faster of the two; the first one tried was "packed".
      this.#keep(speed > this.#compared ? 'stored' : 'packed');
      return;
    }
    if (stretch.packedBytes > stretch.bytes * worthwhileRatio) return this.#keep('stored');
    if (stretch.waitedMs > stretch.totalMs / 2) return this.#keep('packed');
    this.#compared = speed;
    this.#packing = 'stored';
  }

  #keep(packing: Packing): void {
    this.#packing = packing;
    this.#compared = undefined;
    this.#stretchesLeft = stretchesPerChoice;
  }
}

/**
 * Packs a stream as gzip (RFC 1952), a member for each large piece, which every gunzip reads as one. Pieces that are
 * not worth it are stored.
 */
export async function* packedPieces(
  pieces: AsyncIterable<Buffer>,
  { choice = new PackingChoice(), now = () => performance.now() } = {},
): AsyncGenerator<Buffer> {
  const meter = new BulkMeter();
  let stretch = { bytes: 0, packedBytes: 0, waitedMs: 0, beganMs: now() };
  for await (const piece of gathered(pieces)) {
    meter.note(piece.length);
    const { packing } = choice;
    const packed = await gzip(piece, {
      level: packing === 'packed' ? constants.Z_BEST_SPEED : constants.Z_NO_COMPRESSION,
    });
    const handedMs = now();
    yield packed;
    const takenMs = now();
    stretch = {
      bytes: stretch.bytes + piece.length,
      packedBytes: stretch.packedBytes + packed.length,
      waitedMs: stretch.waitedMs + takenMs - handedMs,
      beganMs: stretch.beganMs,
    };
    if (stretch.bytes < stretchBytes) continue;
    const { beganMs, ...counted } = stretch;
    choice.note({ ...counted, packing, totalMs: takenMs - beganMs });
    stretch = { bytes: 0, packedBytes: 0, waitedMs: 0, beganMs: takenMs };
  }
}

async function* gathered(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let small: Buffer[] = [];
  let smallBytes = 0;
  for await (const piece of pieces) {
    small.push(piece);
    smallBytes += piece.length;
    if (smallBytes < memberBytes) continue;
    yield small.length === 1 ? piece : Buffer.concat(small);
    small = [];
    smallBytes = 0;
  }
  if (smallBytes > 0) yield Buffer.concat(small);
}
