import { maxLinks } from '../ext4/format.ts';
import { nameBytes, nodeBytes } from './held-memory.ts';
import type { Attributes, DirectoryNode, FileNode, Node } from '../ext4/nodes.ts';
import type { ConversionLimits } from './conversion-limits.ts';
import { LayerRefusal, shownName } from './layer-refusal.ts';
import { type Obstacle, walk, type Walker } from './tree-walk.ts';

type TreeLimits = Pick<ConversionLimits, 'entries' | 'metadataBytes' | 'lookups'>;

/** A hard link that came before what it links to. */
interface WaitingLink {
  readonly names: readonly string[];
  readonly target: readonly string[];
}

/** Rounds over the waiting links of a layer; a chain of links to links needs as many as it is long. */
const maxLinkRounds = 40;
/** Characters from which on V8 makes a view instead of a copy */
const viewedLength = 13;

/**
 * The files of an image, layer on layer (OCI image spec, “Image Layer
 * Filesystem Changeset”).
 *
 * A whiteout hides what lower layers put there, and never what its own layer
 * does, in whatever order the two come.
 */
export class RootfsTree {
  readonly root: DirectoryNode = newDirectory(implicitAttributes());
  readonly #onUnlinked: (file: FileNode) => void;
  readonly #limits: TreeLimits;
  #nodes = 1;
  #heldBytes = 0;
  #lookups = 0;
  readonly #onNames = (count: number): void => this.#look(count);
  readonly #entering: Walker = {
    enter: (obstacle) => this.#makeDirectory(obstacle),
    onNames: this.#onNames,
  };
  readonly #finding: Walker = { enter: () => undefined, onNames: this.#onNames };
  /**
   * Directories with something of this layer below them, each with the names that this layer's entries gave.
   * Undefined in the first layer: all there is, is its own.
   */
  #fresh: Map<DirectoryNode, Set<string>> | undefined;
  #waitingLinks: WaitingLink[] = [];

  /** `onUnlinked` is told of files that lost their last name. */
  constructor(options: { readonly limits: TreeLimits; readonly onUnlinked: (file: FileNode) => void }) {
    this.#limits = options.limits;
    this.#onUnlinked = options.onUnlinked;
  }

  /** Puts an entry in place of what is there; a directory over a directory keeps the contents. */
  put(names: readonly string[], node: Node): void {
    const name = names.at(-1);
    if (name === undefined) {
      if (node.kind !== 'directory') throw new LayerRefusal('replaces the root directory');
      this.#describe(this.root, node);
      return;
    }
    this.#attach(this.#enterParent(names), ownCopy(name), node);
  }

  /** Adds a name to an existing file. One that is not there yet may still come in the same layer. */
  link(names: readonly string[], target: readonly string[]): void {
    if (this.#tryLink(names, target)) return;
    this.#hold(waitingBytes({ names, target }));
    this.#waitingLinks.push({ names, target });
  }

  /** Hides what lower layers have at this path. */
  whiteout(names: readonly string[]): void {
    const parent = walk(this.root, names.slice(0, -1), this.#finding)?.at(-1);
    const name = names.at(-1);
    if (parent && name !== undefined) this.#hideLower(parent, name);
  }

  /** Hides everything that lower layers have in this directory. */
  makeOpaque(names: readonly string[]): void {
    const directory = walk(this.root, names, this.#finding)?.at(-1);
    if (directory) this.#hideAllLower(directory);
  }

  /** Ends a layer: what was of this layer is lower from now on. */
  endLayer(): void {
    for (let round = 0; round < maxLinkRounds; round++) {
      const before = this.#waitingLinks.length;
      this.#waitingLinks = this.#waitingLinks.filter((link) => {
        if (!this.#tryWaitingLink(link)) return true;
        this.#heldBytes -= waitingBytes(link);
        return false;
      });
      if (this.#waitingLinks.length === before) break;
    }
    const [lost] = this.#waitingLinks;
    if (lost) throw new LayerRefusal(`${shownLink(lost)}, which is not there`);
    this.#fresh = new Map();
  }

  #tryWaitingLink(link: WaitingLink): boolean {
    try {
      return this.#tryLink(link.names, link.target);
    } catch (error) {
      // The entry is long past, and nobody else knows which one it was.
      if (error instanceof LayerRefusal) throw new LayerRefusal(`${shownLink(link)}, which ${error.message}`);
      throw error;
    }
  }

  #tryLink(names: readonly string[], target: readonly string[]): boolean {
    const targetName = target.at(-1);
    const name = names.at(-1);
    if (targetName === undefined || name === undefined)
      throw new LayerRefusal('is a hard link to or in place of the root');
    const node = walk(this.root, target.slice(0, -1), this.#finding)?.at(-1)?.entries.get(targetName);
    if (!node) return false;
    if (node.kind === 'directory')
      throw new LayerRefusal(`is a hard link to the directory "${shownName(target.join('/'))}"`);
    if (node.links >= maxLinks)
      throw new LayerRefusal(`is one of more than ${maxLinks} hard links to one file`);
    // First, because what is in the way of the new name may be the last other one.
    node.links++;
    this.#attach(this.#enterParent(names), ownCopy(name), node);
    return true;
  }

  /** The directories down to the parent of an entry; those nobody described are made. */
  #enterParent(names: readonly string[]): DirectoryNode[] {
    const stack = walk(this.root, names.slice(0, -1), this.#entering);
    if (!stack) throw new LayerRefusal('goes through something that is not a directory');
    return stack;
  }

  /** Instead of a lower layer's file too, unless a symlink led there: then the path does not mean that file. */
  #makeDirectory({ directory, name, found, cameThroughLink }: Obstacle): DirectoryNode | undefined {
    if (found && cameThroughLink) return undefined;
    if (found) this.#drop(name, found);
    const created = newDirectory(implicitAttributes());
    this.#count(name);
    this.#hold(nodeBytes(created));
    directory.entries.set(ownCopy(name), created);
    return created;
  }

  #attach(stack: readonly DirectoryNode[], name: string, node: Node): void {
    const directory = stack.at(-1) ?? this.root;
    const existing = directory.entries.get(name);
    if (existing?.kind === 'directory' && node.kind === 'directory') {
      this.#describe(existing, node);
    } else {
      if (existing) this.#drop(name, existing);
      this.#count(name);
      if (node.kind === 'directory' || node.links === 1) this.#hold(nodeBytes(node));
      directory.entries.set(name, node);
    }
    this.#markFresh(stack);
    this.#fresh?.get(directory)?.add(name);
  }

  /** A directory that is marked has marked ancestors, since directories do not move. */
  #markFresh(stack: readonly DirectoryNode[]): void {
    const fresh = this.#fresh;
    if (!fresh) return;
    for (const directory of stack.toReversed()) {
      if (fresh.has(directory)) return;
      fresh.set(directory, new Set());
    }
  }

  #hideLower(directory: DirectoryNode, name: string): void {
    const child = directory.entries.get(name);
    if (!child || !this.#fresh) return;
    const isFresh = this.#fresh.get(directory)?.has(name) ?? false;
    if (child.kind === 'directory' && (isFresh || this.#fresh.has(child))) {
      // Its entry, and so its attributes, may be a lower layer's.
      if (!isFresh) this.#describe(child, implicitAttributes());
      this.#hideAllLower(child);
    } else if (!isFresh) {
      directory.entries.delete(name);
      this.#drop(name, child);
    }
  }

  #hideAllLower(directory: DirectoryNode): void {
    this.#look(directory.entries.size);
    for (const name of directory.entries.keys()) this.#hideLower(directory, name);
  }

  #drop(name: string, node: Node): void {
    this.#nodes--;
    this.#heldBytes -= nameBytes(name);
    if (node.kind === 'directory') {
      this.#heldBytes -= nodeBytes(node);
      for (const [childName, child] of node.entries) this.#drop(childName, child);
      return;
    }
    node.links--;
    if (node.links > 0) return;
    this.#heldBytes -= nodeBytes(node);
    if (node.kind === 'file') this.#onUnlinked(node);
  }

  #count(name: string): void {
    const { entries } = this.#limits;
    if (++this.#nodes > entries) throw new LayerRefusal(`takes the image over ${entries} files`);
    this.#hold(nameBytes(name));
  }

  #look(names: number): void {
    this.#lookups += names;
    const { lookups } = this.#limits;
    if (this.#lookups > lookups)
      throw new LayerRefusal(`takes the image over ${lookups} names that have to be looked up for its paths`);
  }

  #describe(directory: DirectoryNode, attributes: Attributes): void {
    const before = nodeBytes(directory);
    setAttributes(directory, attributes);
    this.#hold(nodeBytes(directory) - before);
  }

  #hold(bytes: number): void {
    this.#heldBytes += bytes;
    const { metadataBytes } = this.#limits;
    if (this.#heldBytes <= metadataBytes) return;
    const mib = Math.ceil(metadataBytes / 2 ** 20);
    throw new LayerRefusal(`takes names and attributes of the image over ${mib} MiB of memory`);
  }

  /** How many names there are, the root counted. */
  get size(): number {
    return this.#nodes;
  }
}

function shownLink({ names, target }: WaitingLink): string {
  return `has the hard link "${shownName(names.join('/'))}" to "${shownName(target.join('/'))}"`;
}

function waitingBytes({ names, target }: WaitingLink): number {
  return [...names, ...target].reduce((bytes, name) => bytes + nameBytes(name), 200);
}

/** V8 makes a long piece of a string a view of it, which would keep the path of every entry in memory. */
function ownCopy(name: string): string {
  return name.length < viewedLength ? name : Buffer.from(name, 'latin1').toString('latin1');
}

export function newDirectory({ mode, uid, gid, mtime, xattrs }: Attributes): DirectoryNode {
  return { kind: 'directory', mode, uid, gid, mtime, xattrs, links: 1, number: 0, entries: new Map() };
}

/** Those of a directory that no entry describes: a path only leads through it. */
function implicitAttributes(): Attributes {
  return { mode: 0o755, uid: 0, gid: 0, mtime: { seconds: 0, nanoseconds: 0 }, xattrs: undefined };
}

function setAttributes(node: Node, { mode, uid, gid, mtime, xattrs }: Attributes): void {
  node.mode = mode;
  node.uid = uid;
  node.gid = gid;
  node.mtime = mtime;
  node.xattrs = xattrs;
}
