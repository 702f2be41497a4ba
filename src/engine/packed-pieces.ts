import { promisify } from 'node:util';
import { constants, gzip as gzipCallback } from 'node:zlib';
import { BulkMeter } from './optimizer.ts';

const gzip = promisify(gzipCallback);

/** The first line of a stream: how the rest of it is to be read. */
const heads = { packed: 'packed\n', plain: 'plain\n' };

/**
 * Words for the toolbox's shell that unpack such a stream into a program, given by its words.
 *
 * The two share one processor: at equal rank each page through the pipe would be a switch between them, and emulation
 * pays dearly for those. The reader goes first, and so empties the whole pipe before it is filled again. What comes
 * plain the program reads by itself: the shell has taken the first line alone.
 */
export function unpackInto(program: string): string {
  const unpacked = `sh -c 'renice -n 5 -p $$ >/dev/null 2>&1; exec gunzip -c' | ${program}`;
  return `{ read -r packing; if [ "$packing" = plain ]; then ${program}; else ${unpacked}; fi; }`;
}

/** Smaller pieces are gathered: each has a beginning and an end of its own. */
const memberBytes = 256 * 1024;
/** Of content, after which it is looked at how things go. */
export const stretchBytes = 4 * 1024 * 1024;
/** Stretches for which a choice stands before the other way is tried again: a link may change. */
const stretchesPerChoice = 16;
/** Content by which it is decided whether to pack at all. */
export const sampleBytes = 2 * 1024 * 1024;
/** So little has arrived before a guest has started what unpacks it. */
const smallBytes = 64 * 1024;
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
 * A stream for `unpackInto`: packed as gzip (RFC 1952), a member for each large piece, which every gunzip reads as one.
 * Pieces that are not worth it are stored. Content of which the beginning does not become smaller, as of a large
 * archive, goes plain: under emulation, a guest takes it twice as fast when nobody has to look for what is stored. So
 * does what is small.
 */
export async function* packedPieces(
  pieces: AsyncIterable<Buffer>,
  options: { readonly choice?: PackingChoice; readonly now?: () => number } = {},
): AsyncGenerator<Buffer> {
  const rest = gathered(pieces);
  try {
    const { sample, isWorthwhile } = await takeSample(rest);
    yield Buffer.from(isWorthwhile ? heads.packed : heads.plain);
    const all = joined(sample, rest);
    yield* isWorthwhile ? packed(all, options) : metered(all);
  } finally {
    await rest.return(undefined);
  }
}

/** The beginning of large pieces, up to the first that becomes smaller. */
async function takeSample(
  pieces: AsyncIterator<Buffer, void>,
): Promise<{ readonly sample: readonly Buffer[]; readonly isWorthwhile: boolean }> {
  const sample: Buffer[] = [];
  for (let bytes = 0; bytes < sampleBytes;) {
    const { value } = await pieces.next();
    if (value) sample.push(value);
    bytes += value?.length ?? 0;
    // It ends here.
    if (!value || value.length < memberBytes) return { sample, isWorthwhile: bytes > smallBytes };
    const { length } = await gzip(value, { level: constants.Z_BEST_SPEED });
    if (length <= value.length * worthwhileRatio) return { sample, isWorthwhile: true };
  }
  return { sample, isWorthwhile: false };
}

async function* joined(first: readonly Buffer[], rest: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  yield* first;
  yield* rest;
}

async function* metered(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const meter = new BulkMeter();
  for await (const piece of pieces) {
    meter.note(piece.length);
    yield piece;
  }
}

async function* packed(
  pieces: AsyncIterable<Buffer>,
  {
    choice = new PackingChoice(),
    now = () => performance.now(),
  }: { readonly choice?: PackingChoice; readonly now?: () => number },
): AsyncGenerator<Buffer> {
  const meter = new BulkMeter();
  let stretch = { bytes: 0, packedBytes: 0, waitedMs: 0, beganMs: now() };
  for await (const piece of pieces) {
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
