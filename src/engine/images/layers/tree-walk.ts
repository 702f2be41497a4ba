import type { FileTree } from '../ext4/file-tree.ts';
import type { NodeId } from '../ext4/node-table.ts';
import { LayerRefusal } from './layer-refusal.ts';

/** As many symlinks as the kernel follows in one path */
const maxLinksFollowed = 40;
/** PATH_MAX in names of one byte: deeper directories could not be named */
const maxDepth = 2048;

/** A name on the way that is not a directory. */
export interface Obstacle {
  readonly directory: NodeId;
  readonly name: string;
  /** What is there instead, 0 if nothing */
  readonly found: NodeId;
  readonly isLast: boolean;
  readonly cameThroughLink: boolean;
}

/** What a walk does on its way. */
export interface Walker {
  /** Supplies the directory to go on with at an obstacle; undefined ends the walk */
  readonly enter: (obstacle: Obstacle) => NodeId | undefined;
  /** Told of names before they are looked at: a chain of long symlinks makes tens of thousands of one path */
  readonly onNames: (count: number) => void;
}

/**
 * Walks down `names` from the root of the image, following symlinks the way the
 * kernel would after a chroot: absolute ones start at the image's root, and
 * “..” stops there. Nothing of the host is ever looked at.
 *
 * Returns the directories from the root to the last one, or undefined when the
 * walk ended at an `Obstacle`.
 */
export function walk(
  tree: FileTree,
  names: readonly string[],
  { enter, onNames }: Walker,
): NodeId[] | undefined {
  const { nodes, root } = tree;
  const stack = [root];
  const ahead = names.toReversed();
  onNames(ahead.length);
  let linksFollowed = 0;
  for (let name = ahead.pop(); name !== undefined; name = ahead.pop()) {
    if (name === '' || name === '.') continue;
    if (name === '..') {
      if (stack.length > 1) stack.pop();
      continue;
    }
    const directory = stack.at(-1) ?? root;
    const found = tree.child(directory, name);
    const kind = found === 0 ? undefined : nodes.kind(found);
    if (kind === 'symlink') {
      if (++linksFollowed > maxLinksFollowed) throw new LayerRefusal('goes through a loop of symlinks');
      const target = nodes.target(found);
      if (target.startsWith('/')) stack.length = 1;
      const more = target.split('/').reverse();
      onNames(more.length);
      ahead.push(...more);
      continue;
    }
    const next =
      kind === 'directory'
        ? found
        : enter({ directory, name, found, isLast: ahead.length === 0, cameThroughLink: linksFollowed > 0 });
    if (!next) return undefined;
    stack.push(next);
    if (stack.length > maxDepth) throw new LayerRefusal(`is more than ${maxDepth} directories deep`);
  }
  return stack;
}

/** What a path leads to, all symlinks followed; 0 when that is nothing. */
export function findNode(tree: FileTree, path: string): NodeId {
  let found: NodeId = 0;
  const stack = walk(tree, path.split('/'), {
    enter: (obstacle) => {
      if (obstacle.isLast) found = obstacle.found;
      return undefined;
    },
    // Nobody has it look for many.
    onNames: () => undefined,
  });
  return stack?.at(-1) ?? found;
}
