import { PackedRefusal } from './packed-refusal.ts';
import { lengthModel, type LengthModel, maxPositionStates } from './lzma-length-model.ts';
import type { LzmaWindow } from './lzma-window.ts';

/** How literals and positions are modelled (the "lc", "lp" and "pb" of LZMA). */
export interface LzmaProperties {
  readonly literalContextBits: number;
  readonly literalPositionBits: number;
  readonly positionBits: number;
}

const stateCount = 12;
const probabilityBits = 11;
const evenOdds = 1 << (probabilityBits - 1);
const adaptShift = 5;
const literalTreeSize = 0x300;
const lengthStates = 4;
const minMatch = 2;
/** Unpacked bytes after which decoding lets others have their turn; takes milliseconds. */
const sliceBytes = 128 * 1024;
/** Slots below have their whole distance in them. */
const firstModelledSlot = 4;
/** Slots from here on have their middle bits sent without a model. */
const firstDirectSlot = 14;
const alignBits = 4;

/**
 * The decoder of LZMA (https://www.7-zip.org/sdk.html, "LZMA specification"): a range coder whose adaptive
 * probabilities choose between literals, matches and repeated matches.
 *
 * Input comes in whole chunks, as LZMA2 has them; what is read beyond a chunk's end counts as damage.
 */
export class LzmaDecoder {
  readonly #window: LzmaWindow;
  #properties: LzmaProperties = { literalContextBits: 0, literalPositionBits: 0, positionBits: 0 };
  #literals = new Uint16Array(0);
  readonly #isMatch = new Uint16Array(stateCount * maxPositionStates);
  readonly #isRep = new Uint16Array(stateCount);
  readonly #isRep0 = new Uint16Array(stateCount);
  readonly #isRep1 = new Uint16Array(stateCount);
  readonly #isRep2 = new Uint16Array(stateCount);
  readonly #isLongRep0 = new Uint16Array(stateCount * maxPositionStates);
  readonly #slots = new Uint16Array(lengthStates * 64);
  readonly #distances = new Uint16Array(128);
  readonly #align = new Uint16Array(1 << alignBits);
  readonly #matchLength = lengthModel();
  readonly #repLength = lengthModel();
  #state = 0;
  #rep0 = 0;
  #rep1 = 0;
  #rep2 = 0;
  #rep3 = 0;
  // The range coder: 32 bits each, as signed integers, which need no boxing.
  #range = 0;
  #code = 0;
  #input: Buffer = Buffer.alloc(0);
  #at = 0;

  constructor(window: LzmaWindow) {
    this.#window = window;
  }

  /** Forgets what was learnt, and takes other properties if given. */
  reset(properties: LzmaProperties = this.#properties): void {
    this.#properties = properties;
    const contexts = 1 << (properties.literalContextBits + properties.literalPositionBits);
    if (this.#literals.length !== contexts * literalTreeSize)
      this.#literals = new Uint16Array(contexts * literalTreeSize);
    const models = [this.#matchLength, this.#repLength].flatMap(
      (model) => Object.values(model) as Uint16Array[],
    );
    for (const probabilities of [
      this.#literals,
      this.#isMatch,
      this.#isRep,
      this.#isRep0,
      this.#isRep1,
      this.#isRep2,
      this.#isLongRep0,
      this.#slots,
      this.#distances,
      this.#align,
      ...models,
    ])
      probabilities.fill(evenOdds);
    this.#state = 0;
    this.#rep0 = this.#rep1 = this.#rep2 = this.#rep3 = 0;
  }

  /**
   * Decodes one chunk of `length` bytes into the window. It stops every now and then, to be called again: who decodes
   * may have other things to do.
   */
  *decode(input: Buffer, length: number): Generator<void> {
    this.#begin(input);
    const end = this.#window.position + length;
    while (this.#window.position < end) {
      this.#decodeSome(Math.min(end, this.#window.position + sliceBytes), end);
      yield;
    }
    this.#finish();
  }

  #decodeSome(until: number, end: number): void {
    const { literalPositionBits, literalContextBits, positionBits } = this.#properties;
    const window = this.#window;
    const positionMask = (1 << positionBits) - 1;
    const literalMask = (1 << literalPositionBits) - 1;
    while (window.position < until) {
      const positionState = window.position & positionMask;
      const stateIndex = (this.#state << 4) + positionState;
      if (this.#bit(this.#isMatch, stateIndex) === 0) {
        const context =
          ((window.position & literalMask) << literalContextBits) +
          (window.byteAt(0) >> (8 - literalContextBits));
        this.#literal(context * literalTreeSize);
        continue;
      }
      const matched = this.#match(stateIndex, positionState);
      if (matched > end - window.position) throw damaged('a match is longer than its chunk');
      window.repeat(this.#rep0, matched);
    }
  }

  #begin(input: Buffer): void {
    if (input.length < 5 || input[0] !== 0) throw damaged('a chunk begins wrongly');
    this.#input = input;
    this.#range = -1;
    this.#code = input.readInt32BE(1);
    this.#at = 5;
  }

  #finish(): void {
    this.#normalise();
    if (this.#at !== this.#input.length || this.#code !== 0) throw damaged('a chunk ends wrongly');
  }

  /** Decodes the length of a match, after which the first of the recent distances is its distance. */
  #match(stateIndex: number, positionState: number): number {
    const state = this.#state;
    const afterLiteral = state < 7;
    if (this.#bit(this.#isRep, state) === 0) {
      this.#rep3 = this.#rep2;
      this.#rep2 = this.#rep1;
      this.#rep1 = this.#rep0;
      this.#state = afterLiteral ? 7 : 10;
      const length = this.#length(this.#matchLength, positionState);
      this.#rep0 = this.#distance(length);
      return length;
    }
    if (this.#bit(this.#isRep0, state) === 0) {
      if (this.#bit(this.#isLongRep0, stateIndex) === 0) {
        this.#state = afterLiteral ? 9 : 11;
        return 1;
      }
    } else {
      let distance = this.#rep1;
      if (this.#bit(this.#isRep1, state) !== 0) {
        distance = this.#rep2;
        if (this.#bit(this.#isRep2, state) !== 0) {
          distance = this.#rep3;
          this.#rep3 = this.#rep2;
        }
        this.#rep2 = this.#rep1;
      }
      this.#rep1 = this.#rep0;
      this.#rep0 = distance;
    }
    this.#state = afterLiteral ? 8 : 11;
    return this.#length(this.#repLength, positionState);
  }

  #literal(offset: number): void {
    const window = this.#window;
    let symbol = 1;
    if (this.#state >= 7) {
      // After a match, the byte that would have continued it is a good guess.
      let guess = window.byteAt(this.#rep0);
      while (symbol < 0x100) {
        guess <<= 1;
        const guessBit = (guess >> 8) & 1;
        const bit = this.#bit(this.#literals, offset + ((1 + guessBit) << 8) + symbol);
        symbol = (symbol << 1) | bit;
        if (bit !== guessBit) break;
      }
    }
    if (symbol === 1) symbol = this.#tree(this.#literals, offset, 0x100);
    while (symbol < 0x100) symbol = (symbol << 1) | this.#bit(this.#literals, offset + symbol);
    window.append(symbol & 0xff);
    this.#state = this.#state < 4 ? 0 : this.#state < 10 ? this.#state - 3 : this.#state - 6;
  }

  #length(model: LengthModel, positionState: number): number {
    const offset = positionState << 3;
    if (this.#bit(model.choice, 0) === 0) return minMatch + this.#tree(model.low, offset, 8) - 8;
    if (this.#bit(model.choice, 1) === 0) return minMatch + 8 + this.#tree(model.middle, offset, 8) - 8;
    return minMatch + 16 + this.#tree(model.high, 0, 256) - 256;
  }

  #distance(length: number): number {
    const lengthState = Math.min(length - minMatch, lengthStates - 1);
    const slot = this.#tree(this.#slots, lengthState << 6, 64) - 64;
    if (slot < firstModelledSlot) return slot;
    const footerBits = (slot >> 1) - 1;
    const base = ((2 | (slot & 1)) << footerBits) >>> 0;
    if (slot < firstDirectSlot) return base + this.#reverseTree(this.#distances, base - slot, footerBits);
    const middle = (this.#direct(footerBits - alignBits) << alignBits) >>> 0;
    return base + middle + this.#reverseTree(this.#align, 0, alignBits);
  }

  /**
   * Decodes bits, highest first, each by a probability that depends on those before. The result has a 1 in front
   * of them. The fields are held in variables: most of the time is spent here.
   */
  #tree(probabilities: Uint16Array, offset: number, limit: number): number {
    let symbol = 1;
    let range = this.#range;
    let code = this.#code;
    let at = this.#at;
    const input = this.#input;
    while (symbol < limit) {
      if (range >>> 24 === 0) {
        range <<= 8;
        code = (code << 8) | input[at++]!;
      }
      const probability = probabilities[offset + symbol]!;
      const bound = Math.imul(range >>> probabilityBits, probability);
      if (code >>> 0 < bound >>> 0) {
        range = bound;
        probabilities[offset + symbol] = probability + (((1 << probabilityBits) - probability) >> adaptShift);
        symbol <<= 1;
      } else {
        range = (range - bound) | 0;
        code = (code - bound) | 0;
        probabilities[offset + symbol] = probability - (probability >> adaptShift);
        symbol = (symbol << 1) | 1;
      }
    }
    this.#range = range;
    this.#code = code;
    this.#at = at;
    return symbol;
  }

  /** Like `#tree`, lowest bit first. */
  #reverseTree(probabilities: Uint16Array, offset: number, bits: number): number {
    let node = 1;
    let value = 0;
    for (let index = 0; index < bits; index++) {
      const bit = this.#bit(probabilities, offset + node);
      node = (node << 1) | bit;
      value |= bit << index;
    }
    return value;
  }

  /** Bits that are as likely 0 as 1. */
  #direct(bits: number): number {
    let value = 0;
    for (let index = 0; index < bits; index++) {
      this.#normalise();
      this.#range >>>= 1;
      const isSet = this.#code >>> 0 >= this.#range >>> 0;
      if (isSet) this.#code = (this.#code - this.#range) | 0;
      value = (value << 1) | (isSet ? 1 : 0);
    }
    return value;
  }

  #bit(probabilities: Uint16Array, index: number): 0 | 1 {
    this.#normalise();
    const probability = probabilities[index]!;
    const bound = Math.imul(this.#range >>> probabilityBits, probability);
    if (this.#code >>> 0 < bound >>> 0) {
      this.#range = bound;
      probabilities[index] = probability + (((1 << probabilityBits) - probability) >> adaptShift);
      return 0;
    }
    this.#range = (this.#range - bound) | 0;
    this.#code = (this.#code - bound) | 0;
    probabilities[index] = probability - (probability >> adaptShift);
    return 1;
  }

  #normalise(): void {
    if (this.#range >>> 24 !== 0) return;
    this.#range <<= 8;
    // Beyond the end this reads zeros; the end of the chunk then finds that too much was read.
    this.#code = (this.#code << 8) | this.#input[this.#at++]!;
  }
}

function damaged(what: string): PackedRefusal {
  return new PackedRefusal(`has damaged xz data: ${what}`);
}
