import { ExtentTable, type Extents } from './extent-table.ts';
import { inlineTargetLength } from './format.ts';
import { encodeTime, type InodeTime } from './inode-time.ts';
import type { Attributes, Node } from './nodes.ts';
import { Records } from './records.ts';
import type { Texts } from './texts.ts';
import { type Xattrs, XattrTable } from './xattr-table.ts';

/** A node by its number in the table, which is not its inode number; 0 where there is none. */
export type NodeId = number;

/** In the order of their numbers in the table. */
const kinds = ['file', 'directory', 'symlink', 'char', 'block', 'fifo'] as const satisfies Node['kind'][];
const directoryKind = kinds.indexOf('directory');

/** How many names it has in the upper half, then the kind, then 12 bits of permissions */
const headField = 0;
const uidField = 1;
const gidField = 2;
const timeLowField = 3;
const timeExtraField = 4;
/** By kind: lower half of the size, first name, target, major number */
const firstField = 5;
/** By kind: upper half of the size, last name, nothing, minor number */
const secondField = 6;
/** By kind: where the contents are, the layer that came here */
const thirdField = 7;
const xattrsField = 8;
const inodeField = 9;
const fieldCount = 10;

/** What an inode says that does not depend on its kind, in the form of ext4. */
export interface InodeAttributes {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: InodeTime;
}

/** The nodes of an image, and what belongs to one alone: its attributes, a target, where its contents are. */
export class NodeTable {
  readonly extents = new ExtentTable();
  readonly #records = new Records(fieldCount);
  readonly #texts: Texts;
  readonly #xattrs: XattrTable;
  #directories = 0;
  #longTargets = 0;

  constructor(texts: Texts) {
    this.#texts = texts;
    this.#xattrs = new XattrTable(texts);
  }

  /** Memory, texts apart. */
  get heldBytes(): number {
    return this.#records.heldBytes + this.extents.heldBytes + this.#xattrs.heldBytes;
  }

  /** How many of the nodes are directories. */
  get directories(): number {
    return this.#directories;
  }

  get count(): number {
    return this.#records.count;
  }

  /** Blocks that will be written for them, contents and those of directories apart. */
  get blocks(): number {
    return this.#longTargets + this.extents.treeBlocks + this.#xattrs.blocks;
  }

  /** A new node, with one name that is still to be given. */
  add(node: Node): NodeId {
    const id = this.#records.add();
    this.#records.set(id, headField, (1 << 16) | (kinds.indexOf(node.kind) << 12));
    this.describe(id, node);
    switch (node.kind) {
      case 'file':
        this.#records.set(id, firstField, node.size % 2 ** 32);
        this.#records.set(id, secondField, Math.floor(node.size / 2 ** 32));
        this.#records.set(id, thirdField, node.place);
        break;
      case 'directory':
        this.#directories++;
        break;
      case 'symlink':
        if (node.target.length > inlineTargetLength) this.#longTargets++;
        this.#records.set(id, firstField, this.#texts.add(node.target));
        break;
      case 'char':
      case 'block':
        this.#records.set(id, firstField, node.major);
        this.#records.set(id, secondField, node.minor);
        break;
      case 'fifo':
        break;
    }
    return id;
  }

  /** Gives it other attributes. */
  describe(id: NodeId, { mode, uid, gid, mtime, xattrs }: Attributes): void {
    const { low, extra } = encodeTime(mtime);
    const set = this.#xattrs.take(xattrs);
    this.#xattrs.release(this.#records.get(id, xattrsField));
    this.#records.set(id, headField, (this.#records.get(id, headField) & ~0xfff) | mode);
    this.#records.set(id, uidField, uid);
    this.#records.set(id, gidField, gid);
    this.#records.set(id, timeLowField, low);
    this.#records.set(id, timeExtraField, extra);
    this.#records.set(id, xattrsField, set);
  }

  /** Forgets a node, and where its contents are. */
  remove(id: NodeId): void {
    this.#xattrs.release(this.#records.get(id, xattrsField));
    const kind = this.kind(id);
    if (kind === 'file') this.extents.remove(this.#records.get(id, thirdField));
    else if (kind === 'symlink') this.#forgetTarget(this.#records.get(id, firstField));
    else if (kind === 'directory') this.#directories--;
    this.#records.remove(id);
  }

  #forgetTarget(text: number): void {
    if (this.#texts.length(text) > inlineTargetLength) this.#longTargets--;
    this.#texts.remove(text);
  }

  kind(id: NodeId): Node['kind'] {
    return kinds[this.#kindNumber(id)]!;
  }

  isDirectory(id: NodeId): boolean {
    return this.#kindNumber(id) === directoryKind;
  }

  #kindNumber(id: NodeId): number {
    return (this.#records.get(id, headField) >>> 12) & 0xf;
  }

  attributes(id: NodeId): InodeAttributes {
    return {
      mode: this.#records.get(id, headField) & 0xfff,
      uid: this.#records.get(id, uidField),
      gid: this.#records.get(id, gidField),
      mtime: {
        low: this.#records.get(id, timeLowField),
        extra: this.#records.get(id, timeExtraField),
      },
    };
  }

  xattrs(id: NodeId): Xattrs | undefined {
    return this.#xattrs.read(this.#records.get(id, xattrsField));
  }

  /** How many names it has; for directories not kept up. */
  links(id: NodeId): number {
    return this.#records.get(id, headField) >>> 16;
  }

  changeLinks(id: NodeId, by: 1 | -1): void {
    this.#records.set(id, headField, this.#records.get(id, headField) + by * 2 ** 16);
  }

  /** Inode number; 0 until the writer gives one. */
  inode(id: NodeId): number {
    return this.#records.get(id, inodeField);
  }

  setInode(id: NodeId, inode: number): void {
    this.#records.set(id, inodeField, inode);
  }

  /** Of a file. */
  contents(id: NodeId): { readonly size: number; readonly extents: Extents } {
    const size = this.#records.get(id, firstField) + this.#records.get(id, secondField) * 2 ** 32;
    return { size, extents: this.extents.at(this.#records.get(id, thirdField), size) };
  }

  /** Of a symlink. */
  target(id: NodeId): string {
    return this.#texts.read(this.#records.get(id, firstField));
  }

  /** Of a device. */
  device(id: NodeId): { readonly major: number; readonly minor: number } {
    return { major: this.#records.get(id, firstField), minor: this.#records.get(id, secondField) };
  }

  /** The first name in a directory, in a `NameTable`. */
  firstName(directory: NodeId): number {
    return this.#records.get(directory, firstField);
  }

  setFirstName(directory: NodeId, name: number): void {
    this.#records.set(directory, firstField, name);
  }

  lastName(directory: NodeId): number {
    return this.#records.get(directory, secondField);
  }

  setLastName(directory: NodeId, name: number): void {
    this.#records.set(directory, secondField, name);
  }

  /** The last layer that had something in a directory or below it. */
  layer(directory: NodeId): number {
    return this.#records.get(directory, thirdField);
  }

  setLayer(directory: NodeId, layer: number): void {
    this.#records.set(directory, thirdField, layer);
  }
}
