import { Records } from './records.ts';
import type { Texts } from './texts.ts';
import { needXattrBlock } from './xattrs.ts';

const textField = 0;
const usersField = 1;
/** 1: each user has a block for them */
const blockField = 2;

/** Sets of xattrs that are remembered in order to find out that the next file has one of them. */
const remembered = 1024;

export type Xattrs = ReadonlyMap<string, Buffer>;

/** The xattrs of files. Most that have any have the same ones, which are kept once. */
export class XattrTable {
  readonly #texts: Texts;
  readonly #sets = new Records(3);
  readonly #recent = new Uint32Array(remembered);
  #blocks = 0;

  constructor(texts: Texts) {
    this.#texts = texts;
  }

  get heldBytes(): number {
    return this.#sets.heldBytes;
  }

  /** Blocks that will be written for the users of all sets. */
  get blocks(): number {
    return this.#blocks;
  }

  /** The number of a set for one user of it; 0 for none. */
  take(xattrs: Xattrs | undefined): number {
    if (!xattrs || xattrs.size === 0) return 0;
    const text = encode(xattrs);
    const slot = slotOf(text);
    const recent = this.#recent[slot]!;
    if (recent !== 0 && this.#texts.equals(this.#sets.get(recent, textField), text)) {
      this.#sets.set(recent, usersField, this.#sets.get(recent, usersField) + 1);
      this.#blocks += this.#sets.get(recent, blockField);
      return recent;
    }
    const set = this.#sets.add();
    this.#sets.set(set, textField, this.#texts.add(text));
    this.#sets.set(set, usersField, 1);
    this.#sets.set(set, blockField, needXattrBlock(xattrs) ? 1 : 0);
    this.#blocks += this.#sets.get(set, blockField);
    this.#recent[slot] = set;
    return set;
  }

  /** Ends one use of a set. */
  release(set: number): void {
    if (set === 0) return;
    const users = this.#sets.get(set, usersField) - 1;
    this.#sets.set(set, usersField, users);
    this.#blocks -= this.#sets.get(set, blockField);
    if (users > 0) return;
    const text = this.#sets.get(set, textField);
    const slot = slotOf(this.#texts.read(text));
    if (this.#recent[slot] === set) this.#recent[slot] = 0;
    this.#texts.remove(text);
    this.#sets.remove(set);
  }

  read(set: number): Xattrs | undefined {
    return set === 0 ? undefined : decode(this.#texts.read(this.#sets.get(set, textField)));
  }
}

/** Lengths of name and value, then the two, one after the other. */
function encode(xattrs: Xattrs): string {
  let text = '';
  for (const [name, value] of xattrs)
    text += `${name.length} ${value.length} ${name}${value.toString('latin1')}`;
  return text;
}

function decode(text: string): Xattrs {
  const xattrs = new Map<string, Buffer>();
  for (let position = 0; position < text.length;) {
    const endOfFirst = text.indexOf(' ', position);
    const endOfSecond = text.indexOf(' ', endOfFirst + 1);
    const name = endOfSecond + 1 + Number(text.slice(position, endOfFirst));
    const end = name + Number(text.slice(endOfFirst + 1, endOfSecond));
    xattrs.set(text.slice(endOfSecond + 1, name), Buffer.from(text.slice(name, end), 'latin1'));
    position = end;
  }
  return xattrs;
}

function slotOf(text: string): number {
  let hash = 0;
  for (let index = 0; index < text.length; index++) hash = (Math.imul(hash, 31) + text.charCodeAt(index)) | 0;
  return (hash >>> 0) % remembered;
}
