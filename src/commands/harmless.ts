/* eslint-disable no-control-regex -- control characters are what this file looks for */
import { obeyedCharacters } from '../printable.ts';

/** Sequences of ECMA-48: control sequences, strings that have their end on the same line, and the short ones. */
const sequence =
  /\u001b(?:\[[0-?]*[ -/]*[@-~]|[PX^_\]][^\u0007\u001b\n\u009c]*(?:\u0007|\u009c|\u001b\\)|[ -/]*[0-~])/;
/** What is left of broken sequences, other control characters, and those that reorder text. */
const character = `(?![\\t\\n\\r])${obeyedCharacters}`;
const harmful = new RegExp(`${sequence.source}|${character}`, 'g');
/** Colours and the like: the one kind of sequence that changes nothing but how text looks. */
const looks = /^\u001b\[[0-9;:]*m$/;
const begun = /\u001b(?:\[[0-?]*[ -/]*|[PX^_\]][^\u0007\u001b\n\u009c]*\u001b?|[ -/]*)$/;
/** A sequence that has not ended after this many characters is none. */
const maxSequenceLength = 4096;

/**
 * Makes a guest's words safe for a terminal: lines, tabs and colours stay; what sets the clipboard or the title, asks
 * the terminal for answers, moves the cursor or rings goes. Takes a stream piece by piece; `end` is to be written last.
 */
export class HarmlessText {
  readonly #decoder = new TextDecoder();
  /** The beginning of a sequence at the end of what came so far */
  #rest = '';
  #hasColours = false;

  push(piece: Buffer): string {
    const text = this.#rest + this.#decoder.decode(piece, { stream: true });
    const unfinished = begun.exec(text.slice(-maxSequenceLength))?.[0] ?? '';
    this.#rest = unfinished.length < maxSequenceLength ? unfinished : '';
    return text.slice(0, text.length - this.#rest.length).replace(harmful, (found) => {
      if (!looks.test(found)) return '';
      this.#hasColours = true;
      return found;
    });
  }

  end(): string {
    return this.#hasColours ? '\u001b[0m' : '';
  }
}
