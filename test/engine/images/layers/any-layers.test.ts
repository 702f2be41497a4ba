import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { convert, expectClean, mounted, mountObstacle, tempDirectory } from './image-inspector.ts';
import { directory, type EntrySpec, file, hardlink, tarOf } from '../../../support/tar-builder.ts';

const obstacle = mountObstacle();

const leafNames = ['a', 'b', 'c'];
const parents = ['', 'a/', 'b/', 'a/b/', 'b/a/c/'];
const pathOf = fc
  .tuple(fc.constantFrom(...parents), fc.constantFrom(...leafNames))
  .map(([parent, name]) => parent + name);
const action = fc.oneof(
  fc.record({ do: fc.constant('file' as const), path: pathOf, size: fc.nat(20_000), mode: fc.nat(0o7777) }),
  fc.record({ do: fc.constant('directory' as const), path: pathOf, size: fc.nat(5), mode: fc.nat(0o7777) }),
  fc.record({ do: fc.constant('link' as const), path: pathOf, size: fc.nat(9), mode: fc.nat(5) }),
  fc.record({ do: fc.constant('whiteout' as const), path: pathOf, size: fc.nat(5), mode: fc.nat(5) }),
  fc.record({ do: fc.constant('opaque' as const), path: pathOf, size: fc.nat(5), mode: fc.nat(5) }),
);
type Action = typeof action extends fc.Arbitrary<infer T> ? T : never;

test('any layers give what the rules of OCI say', async ({ skip }) => {
  if (obstacle !== undefined) skip(obstacle);
  const layers = fc.array(fc.array(action, { maxLength: 12 }), { minLength: 1, maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(layers, async (generated) => {
      using temp = tempDirectory();
      const model = new Map<string, ModelFile>();
      const { image } = await convert(
        temp.path,
        generated.map((actions) => tarOf(applyToModel(model, actions))),
      );
      expectClean(image);
      using mount = mounted(image);
      expect(describeMount(mount.path)).toEqual(describeModel(model));
    }),
    { numRuns: 20 },
  );
});

/** One object per inode, so that hard links are equal objects. */
interface ModelFile {
  readonly isDirectory: boolean;
  readonly mode: number;
  readonly size: number;
}

/** Applies a layer to the model – what it hides first, what it adds then – and returns its entries in their order. */
function applyToModel(model: Map<string, ModelFile>, actions: readonly Action[]): EntrySpec[] {
  const remove = (name: string): void => {
    for (const each of [...model.keys()])
      if (each === name || each.startsWith(`${name}/`)) model.delete(each);
  };
  for (const { do: what, path: name } of actions) {
    if (what === 'whiteout') remove(name);
    if (what === 'opaque')
      for (const each of [...model.keys()]) if (each.startsWith(`${name}/`)) model.delete(each);
  }
  const put = (name: string, added: ModelFile): void => {
    const names = name.split('/');
    for (let depth = 1; depth < names.length; depth++) {
      const parent = names.slice(0, depth).join('/');
      if (!model.get(parent)?.isDirectory) model.set(parent, { isDirectory: true, mode: 0o755, size: 0 });
    }
    if (!(added.isDirectory && model.get(name)?.isDirectory)) remove(name);
    model.set(name, added);
  };

  const entries: EntrySpec[] = [];
  let lastFile: { readonly name: string; readonly file: ModelFile } | undefined;
  for (const { do: what, path: name, size, mode } of actions) {
    const base = path.basename(name);
    if (what === 'whiteout') entries.push(file(path.join(path.dirname(name), `.wh.${base}`), ''));
    if (what === 'opaque') entries.push(file(`${name}/.wh..wh..opq`, ''));
    if (what === 'file') {
      lastFile = { name, file: { isDirectory: false, mode, size } };
      put(name, lastFile.file);
      entries.push(file(name, base.repeat(size), { mode }));
    }
    if (what === 'directory') {
      put(name, { isDirectory: true, mode, size: 0 });
      entries.push(directory(name, { mode }));
    }
    // Only to a file of this layer that is still there: what a whiteout does to the others depends on the order.
    if (what === 'link' && lastFile && model.get(lastFile.name) === lastFile.file) {
      put(name, lastFile.file);
      entries.push(hardlink(name, lastFile.name));
    }
  }
  return entries;
}

function describeModel(model: ReadonlyMap<string, ModelFile>): string[] {
  const names = (wanted: ModelFile): number => [...model.values()].filter((each) => each === wanted).length;
  return [...model]
    .map(
      ([name, each]) =>
        `${name} ${each.mode.toString(8)} ${each.isDirectory ? 'directory' : `${each.size} ${names(each)}`}`,
    )
    .sort();
}

function describeMount(root: string): string[] {
  const lines: string[] = [];
  for (const relative of readdirSync(root, { recursive: true, encoding: 'utf8' })) {
    if (relative === 'lost+found') continue;
    const stats = statSync(path.join(root, relative));
    const kind = stats.isDirectory() ? 'directory' : `${stats.size} ${stats.nlink}`;
    lines.push(`${relative} ${(stats.mode & 0o7777).toString(8)} ${kind}`);
  }
  return lines.sort();
}
