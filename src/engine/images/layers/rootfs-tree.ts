import type { BlockAllocator } from '../ext4/block-allocator.ts';
import { FileTree, implicitDirectory } from '../ext4/file-tree.ts';
import { maxLinks } from '../ext4/format.ts';
import type { NameId } from '../ext4/name-table.ts';
import type { NodeId } from '../ext4/node-table.ts';
import type { Attributes, Node } from '../ext4/nodes.ts';
import type { ConversionLimits } from './conversion-limits.ts';
import { LayerRefusal, shownName } from './layer-refusal.ts';
import { type Obstacle, walk, type Walker } from './tree-walk.ts';
import { type WaitingLink, WaitingLinks } from './waiting-links.ts';

type TreeLimits = Pick<ConversionLimits, 'entries' | 'metadataBytes' | 'lookups'>;

/** Rounds over the waiting links of a layer; a chain of links to links needs as many as it is long. */
const maxLinkRounds = 40;

/**
 * The files of an image, layer on layer (OCI image spec, “Image Layer
 * Filesystem Changeset”).
 *
 * A whiteout hides what lower layers put there, and never what its own layer
 * does, in whatever order the two come.
 */
export class RootfsTree {
  readonly files = new FileTree();
  readonly #allocator: BlockAllocator;
  readonly #limits: TreeLimits;
  #lookups = 0;
  readonly #onNames = (count: number): void => this.#look(count);
  readonly #entering: Walker = {
    enter: (obstacle) => this.#makeDirectory(obstacle),
    onNames: this.#onNames,
  };
  readonly #finding: Walker = { enter: () => undefined, onNames: this.#onNames };
  /** Counts from 1. Names and directories know the last one that had something for them. */
  #layer = 1;
  #waitingLinks = new WaitingLinks();

  /** Blocks of files that lose their last name are given back to the allocator. */
  constructor(options: { readonly limits: TreeLimits; readonly allocator: BlockAllocator }) {
    this.#limits = options.limits;
    this.#allocator = options.allocator;
  }

  /** How many names there are, the root counted. */
  get size(): number {
    return this.files.names.count + 1;
  }

  /** Puts an entry in place of what is there; a directory over a directory keeps the contents. */
  put(names: readonly string[], node: Node): void {
    const { files } = this;
    const name = names.at(-1);
    if (name === undefined) {
      if (node.kind !== 'directory') throw new LayerRefusal('replaces the root directory');
      this.#describe(files.root, node);
      return;
    }
    const stack = this.#enterParent(names);
    const present = node.kind === 'directory' ? files.names.find(stack.at(-1)!, name) : 0;
    if (present !== 0 && files.nodes.isDirectory(files.names.node(present))) {
      this.#describe(files.names.node(present), node);
      this.#markFresh(stack, present);
    } else {
      this.#attach(stack, name, files.nodes.add(node));
    }
  }

  /** Adds a name to an existing file. One that is not there yet may still come in the same layer. */
  link(names: readonly string[], target: readonly string[]): void {
    if (this.#tryLink(names, target)) return;
    this.#waitingLinks.add({ path: names.join('/'), target: target.join('/') });
    this.#checkMemory();
  }

  /** Hides what lower layers have at this path. */
  whiteout(names: readonly string[]): void {
    const parent = walk(this.files, names.slice(0, -1), this.#finding)?.at(-1);
    const name = parent === undefined ? 0 : this.files.names.find(parent, names.at(-1) ?? '');
    if (name !== 0) this.#hideLower(name);
  }

  /** Hides everything that lower layers have in this directory. */
  makeOpaque(names: readonly string[]): void {
    const directory = walk(this.files, names, this.#finding)?.at(-1);
    if (directory !== undefined) this.#hideAllLower(directory);
  }

  /** Ends a layer: what was of this layer is lower from now on. */
  endLayer(): void {
    for (let round = 0; round < maxLinkRounds; round++) {
      const before = this.#waitingLinks.length;
      this.#waitingLinks.settle((link) => this.#tryWaitingLink(link));
      if (this.#waitingLinks.length === before) break;
    }
    const lost = this.#waitingLinks.first();
    if (lost) throw new LayerRefusal(`${shownLink(lost)}, which is not there`);
    this.#waitingLinks = new WaitingLinks();
    this.#layer++;
  }

  #tryWaitingLink(link: WaitingLink): boolean {
    try {
      return this.#tryLink(link.path.split('/'), link.target.split('/'));
    } catch (error) {
      // The entry is long past, and nobody else knows which one it was.
      if (error instanceof LayerRefusal) throw new LayerRefusal(`${shownLink(link)}, which ${error.message}`);
      throw error;
    }
  }

  #tryLink(names: readonly string[], target: readonly string[]): boolean {
    const { nodes } = this.files;
    const targetName = target.at(-1);
    const name = names.at(-1);
    if (targetName === undefined || name === undefined)
      throw new LayerRefusal('is a hard link to or in place of the root');
    const parent = walk(this.files, target.slice(0, -1), this.#finding)?.at(-1);
    const node = parent === undefined ? 0 : this.files.child(parent, targetName);
    if (node === 0) return false;
    if (nodes.isDirectory(node))
      throw new LayerRefusal(`is a hard link to the directory "${shownName(target.join('/'))}"`);
    if (nodes.links(node) >= maxLinks)
      throw new LayerRefusal(`is one of more than ${maxLinks} hard links to one file`);
    // First, because what is in the way of the new name may be the last other one.
    nodes.changeLinks(node, 1);
    this.#attach(this.#enterParent(names), name, node);
    return true;
  }

  /** The directories down to the parent of an entry; those nobody described are made. */
  #enterParent(names: readonly string[]): NodeId[] {
    const stack = walk(this.files, names.slice(0, -1), this.#entering);
    if (!stack) throw new LayerRefusal('goes through something that is not a directory');
    return stack;
  }

  /** Instead of a lower layer's file too, unless a symlink led there: then the path does not mean that file. */
  #makeDirectory({ directory, name, found, cameThroughLink }: Obstacle): NodeId | undefined {
    if (found !== 0 && cameThroughLink) return undefined;
    const created = this.files.nodes.add(implicitDirectory);
    this.#setName(directory, name, created);
    return created;
  }

  /** Gives a name in the last directory of the stack to a node, as an entry of this layer. */
  #attach(stack: readonly NodeId[], name: string, node: NodeId): void {
    this.#markFresh(stack, this.#setName(stack.at(-1)!, name, node));
  }

  /** Gives a name to a node, in place of what it stands for now. */
  #setName(directory: NodeId, name: string, node: NodeId): NameId {
    const { names } = this.files;
    let id = names.find(directory, name);
    if (id === 0) {
      id = this.#addName(directory, name, node);
    } else {
      const before = names.node(id);
      names.setNode(id, node);
      this.#drop(before);
    }
    this.#checkMemory();
    return id;
  }

  #addName(directory: NodeId, name: string, node: NodeId): NameId {
    const { entries } = this.#limits;
    if (this.size >= entries) throw new LayerRefusal(`takes the image over ${entries} files`);
    return this.files.names.add(directory, name, node);
  }

  /** Marks a name as one of this layer. A directory that is marked has marked ancestors, since directories do not move. */
  #markFresh(stack: readonly NodeId[], name: NameId): void {
    const { nodes, names } = this.files;
    names.setLayer(name, this.#layer);
    for (const directory of stack.toReversed()) {
      if (nodes.layer(directory) === this.#layer) return;
      nodes.setLayer(directory, this.#layer);
    }
  }

  #hideLower(name: NameId): void {
    // In the first layer all there is, is its own.
    if (this.#layer === 1) return;
    const { nodes, names } = this.files;
    const child = names.node(name);
    const isFresh = names.layer(name) === this.#layer;
    if (nodes.isDirectory(child) && (isFresh || nodes.layer(child) === this.#layer)) {
      // Its entry, and so its attributes, may be a lower layer's.
      if (!isFresh) this.#describe(child, implicitDirectory);
      this.#hideAllLower(child);
    } else if (!isFresh) {
      names.remove(name);
      this.#drop(child);
    }
  }

  #hideAllLower(directory: NodeId): void {
    const { names } = this.files;
    for (let name = names.first(directory); name !== 0;) {
      this.#look(1);
      const next = names.next(name);
      this.#hideLower(name);
      name = next;
    }
  }

  /** Takes a name from a node, and forgets it with its last one; a directory has only one. */
  #drop(node: NodeId): void {
    const { nodes, names } = this.files;
    if (nodes.isDirectory(node)) {
      for (let name = names.first(node); name !== 0; name = names.first(node)) {
        const child = names.node(name);
        names.remove(name);
        this.#drop(child);
      }
    } else {
      nodes.changeLinks(node, -1);
      if (nodes.links(node) > 0) return;
      if (nodes.kind(node) === 'file')
        for (const { run } of nodes.contents(node).extents) this.#allocator.release(run);
    }
    nodes.remove(node);
  }

  #describe(directory: NodeId, attributes: Attributes): void {
    this.files.nodes.describe(directory, attributes);
    this.#checkMemory();
  }

  #look(names: number): void {
    this.#lookups += names;
    const { lookups } = this.#limits;
    if (this.#lookups > lookups)
      throw new LayerRefusal(`takes the image over ${lookups} names that have to be looked up for its paths`);
  }

  #checkMemory(): void {
    const { metadataBytes } = this.#limits;
    const held = this.files.heldBytes + this.#allocator.heldBytes + this.#waitingLinks.heldBytes;
    if (held <= metadataBytes) return;
    const mib = Math.ceil(metadataBytes / 2 ** 20);
    throw new LayerRefusal(`takes names and attributes of the image over ${mib} MiB of memory`);
  }
}

function shownLink({ path, target }: WaitingLink): string {
  return `has the hard link "${shownName(path)}" to "${shownName(target)}"`;
}
