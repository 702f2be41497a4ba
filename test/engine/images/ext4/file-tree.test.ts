import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FileTree, implicitDirectory } from '../../../../src/engine/images/ext4/file-tree.ts';
import type { NodeId } from '../../../../src/engine/images/ext4/node-table.ts';
import type { Xattrs } from '../../../../src/engine/images/ext4/xattr-table.ts';

const fileNode = (xattrs?: Xattrs) =>
  ({ ...implicitDirectory, kind: 'file', size: 0, place: 0, xattrs }) as const;

/** The names in a directory, in their order. */
function listed({ nodes, names }: FileTree, directory: NodeId): string[] {
  const list: string[] = [];
  for (let name = names.first(directory); name !== 0; name = names.next(name)) {
    const bytes = Buffer.alloc(names.length(name));
    names.copy(name, bytes, 0);
    list.push(`${bytes.toString('latin1')} ${nodes.isDirectory(names.node(name)) ? 'directory' : 'file'}`);
  }
  return list;
}

test('names are found in their directory alone, and keep their order, whatever comes and goes', () => {
  const names = fc.array(
    fc.record({
      directory: fc.nat(2),
      name: fc.string({ unit: 'binary-ascii', minLength: 1, maxLength: 40 }),
      isRemoved: fc.boolean(),
      pick: fc.nat(),
    }),
    { maxLength: 3000, size: 'max' },
  );
  fc.assert(
    fc.property(names, (steps) => {
      const tree = new FileTree();
      const directories = Array.from({ length: 3 }, () => tree.nodes.add(implicitDirectory));
      const models = directories.map(() => new Map<string, NodeId>());
      for (const { directory, name, isRemoved, pick } of steps) {
        const [id, model] = [directories[directory]!, models[directory]!];
        const known = [...model.keys()];
        if (isRemoved && known.length > 0) {
          const gone = known[pick % known.length]!;
          tree.names.remove(tree.names.find(id, gone));
          tree.nodes.remove(model.get(gone)!);
          model.delete(gone);
        } else if (!model.has(name)) {
          const node = tree.nodes.add(fileNode());
          tree.names.add(id, name, node);
          model.set(name, node);
        }
        expect(tree.child(id, name)).toBe(model.get(name) ?? 0);
      }
      directories.forEach((id, index) =>
        expect(listed(tree, id)).toEqual([...models[index]!.keys()].map((name) => `${name} file`)),
      );
      expect(tree.names.count).toBe(models.reduce((sum, { size }) => sum + size, 0));
    }),
    { numRuns: 10 },
  );
});

test('what was removed makes room for what comes', () => {
  const tree = new FileTree();
  const fill = (): NodeId[] =>
    Array.from({ length: 2000 }, (_, index) => {
      const xattrs = new Map([['user.a', Buffer.from(`value ${String(index).padStart(8, '0')}`)]]);
      const node = tree.nodes.add(fileNode(xattrs));
      tree.names.add(tree.root, `name-${String(index).padStart(8, '0')}`, node);
      return node;
    });
  const nodes = fill();
  const held = tree.heldBytes;
  for (let round = 0; round < 3; round++) {
    for (let name = tree.names.first(tree.root); name !== 0; name = tree.names.first(tree.root))
      tree.names.remove(name);
    for (const node of nodes) tree.nodes.remove(node);
    nodes.splice(0, nodes.length, ...fill());
  }
  expect(tree.heldBytes).toBe(held);
  expect(tree.nodes.xattrs(nodes[7]!)).toEqual(new Map([['user.a', Buffer.from('value 00000007')]]));
});

test('xattrs that many files have are kept once, and until the last of them has gone', () => {
  const tree = new FileTree();
  const xattrs = new Map([
    ['security.selinux', Buffer.from('system_u:object_r:bin_t:s0\0')],
    ['user.1 2', Buffer.from([0, 255])],
  ]);
  const first = tree.nodes.add(fileNode(xattrs));
  const before = tree.heldBytes;
  const others = Array.from({ length: 100 }, () => tree.nodes.add(fileNode(new Map(xattrs))));
  expect((tree.heldBytes - before) / others.length).toBe(40);
  tree.nodes.remove(first);
  for (const node of others.slice(1)) tree.nodes.remove(node);
  expect(tree.nodes.xattrs(others[0]!)).toEqual(xattrs);
});
