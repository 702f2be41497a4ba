import { entrySize } from './directory.ts';
import { NameHash } from './name-hash.ts';
import type { NodeId, NodeTable } from './node-table.ts';
import { Records } from './records.ts';
import type { Texts } from './texts.ts';

/** A name in a directory, by its number in the table; 0 where there is none. */
export type NameId = number;

const textField = 0;
const nodeField = 1;
const directoryField = 2;
const previousField = 3;
const nextField = 4;
/** The next name with the same hash */
const chainField = 5;
const layerField = 6;
const fieldCount = 7;

const fewestChains = 1024;
/** As many bits of a hash as are good */
const mostChains = 2 ** 25;

/** The names in all directories of an image: in each in the order they came, and found by one table of hashes. */
export class NameTable {
  readonly #nodes: NodeTable;
  readonly #texts: Texts;
  readonly #records = new Records(fieldCount);
  readonly #hash = new NameHash();
  /** By the upper bits of the hash: the first name of a chain */
  #chains = new Uint32Array(fewestChains);
  #entryBytes = 0;

  constructor(nodes: NodeTable, texts: Texts) {
    this.#nodes = nodes;
    this.#texts = texts;
  }

  get count(): number {
    return this.#records.count;
  }

  /** What the entries of all take in the blocks of directories. */
  get entryBytes(): number {
    return this.#entryBytes;
  }

  /** Memory, texts apart. */
  get heldBytes(): number {
    return this.#records.heldBytes + this.#chains.byteLength;
  }

  find(directory: NodeId, name: string): NameId {
    const records = this.#records;
    let id = this.#chains[this.#chainOf(this.#hash.of(directory, name))]!;
    while (id !== 0 && !this.#isIt(id, directory, name)) id = records.get(id, chainField);
    return id;
  }

  #isIt(id: NameId, directory: NodeId, name: string): boolean {
    const records = this.#records;
    return (
      records.get(id, directoryField) === directory && this.#texts.equals(records.get(id, textField), name)
    );
  }

  /** Adds a name that the directory does not have yet, behind all others. */
  add(directory: NodeId, name: string, node: NodeId): NameId {
    const records = this.#records;
    const id = records.add();
    this.#entryBytes += entrySize(name.length);
    records.set(id, textField, this.#texts.add(name));
    records.set(id, nodeField, node);
    records.set(id, directoryField, directory);
    const previous = this.#nodes.lastName(directory);
    records.set(id, previousField, previous);
    if (previous === 0) this.#nodes.setFirstName(directory, id);
    else records.set(previous, nextField, id);
    this.#nodes.setLastName(directory, id);
    this.#putInChain(id, this.#hash.of(directory, name));
    if (records.count > this.#chains.length && this.#chains.length < mostChains) this.#lengthenTable();
    return id;
  }

  remove(id: NameId): void {
    const records = this.#records;
    this.#takeFromChain(id);
    const directory = records.get(id, directoryField);
    const previous = records.get(id, previousField);
    const next = records.get(id, nextField);
    if (previous === 0) this.#nodes.setFirstName(directory, next);
    else records.set(previous, nextField, next);
    if (next === 0) this.#nodes.setLastName(directory, previous);
    else records.set(next, previousField, previous);
    this.#entryBytes -= entrySize(this.length(id));
    this.#texts.remove(records.get(id, textField));
    records.remove(id);
  }

  /** The first name in a directory. */
  first(directory: NodeId): NameId {
    return this.#nodes.firstName(directory);
  }

  /** The one behind it in the same directory. */
  next(id: NameId): NameId {
    return this.#records.get(id, nextField);
  }

  node(id: NameId): NodeId {
    return this.#records.get(id, nodeField);
  }

  setNode(id: NameId, node: NodeId): void {
    this.#records.set(id, nodeField, node);
  }

  /** The last layer with an entry of this name; 0 when there was none, and the name is only part of others' paths. */
  layer(id: NameId): number {
    return this.#records.get(id, layerField);
  }

  setLayer(id: NameId, layer: number): void {
    this.#records.set(id, layerField, layer);
  }

  /** Its bytes. */
  length(id: NameId): number {
    return this.#texts.length(this.#records.get(id, textField));
  }

  copy(id: NameId, target: Buffer, position: number): void {
    this.#texts.copy(this.#records.get(id, textField), target, position);
  }

  #chainOf(hash: number): number {
    // The table is a power of two long.
    return hash >>> (Math.clz32(this.#chains.length) + 1);
  }

  #putInChain(id: NameId, hash: number): void {
    const chain = this.#chainOf(hash);
    this.#records.set(id, chainField, this.#chains[chain]!);
    this.#chains[chain] = id;
  }

  #takeFromChain(id: NameId): void {
    const records = this.#records;
    const chain = this.#chainOf(this.#hashOf(id));
    const next = records.get(id, chainField);
    let before = this.#chains[chain]!;
    if (before === id) {
      this.#chains[chain] = next;
      return;
    }
    while (records.get(before, chainField) !== id) before = records.get(before, chainField);
    records.set(before, chainField, next);
  }

  #hashOf(id: NameId): number {
    const text = this.#records.get(id, textField);
    const directory = this.#records.get(id, directoryField);
    return this.#hash.ofBytes(directory, this.#texts.length(text), (index) =>
      this.#texts.byteAt(text, index),
    );
  }

  /** Twice as many chains; each of the old ones becomes two. */
  #lengthenTable(): void {
    const shorter = this.#chains;
    this.#chains = new Uint32Array(shorter.length * 2);
    for (let id of shorter) {
      while (id !== 0) {
        const next = this.#records.get(id, chainField);
        this.#putInChain(id, this.#hashOf(id));
        id = next;
      }
    }
  }
}
