import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { makeModuleArchive } from '../../../../src/engine/images/kernels/module-archive.ts';
import { readPackage } from '../../../../src/engine/images/kernels/kernel-package.ts';
import { readModuleFacts } from '../../../../src/engine/images/kernels/module-file.ts';
import type { ModuleSource } from '../../../../src/engine/images/kernels/module-tree.ts';
import { tempDirectory } from '../layers/image-inspector.ts';
import { file, tarOf, type EntrySpec } from '../../../support/tar-builder.ts';

/** A module that says nothing about itself. */
function moduleOf(bytes: number): Buffer {
  const module = Buffer.alloc(bytes);
  module.write('\x7fELF\x02\x01', 'latin1');
  module.writeBigUInt64LE(64n, 40);
  module.writeUInt16LE(64, 58);
  module.writeUInt16LE(1, 60);
  return module;
}

function archiveOf(limits: { readonly bytes: number; readonly modules: number }): Promise<unknown> {
  const modules = new Map<string, ModuleSource>(
    ['virtio_ring', 'virtio', 'virtio_pci'].map((name) => [
      name,
      {
        fileName: `${name}.ko`,
        open: async function* () {
          yield await Promise.resolve(moduleOf(10_000));
        },
      },
    ]),
  );
  return makeModuleArchive({
    version: '6.1.0',
    tree: { label: 'modules', modules, builtin: undefined },
    isBuiltin: () => true,
    keepSignatures: true,
    limits,
  });
}

test('the modules that guests load are bounded in bytes, each and together, and in number', async () => {
  expect(await archiveOf({ bytes: 30_000, modules: 3 })).toMatchObject({
    modules: ['virtio_ring', 'virtio', 'virtio_pci'],
  });
  await expect(archiveOf({ bytes: 5000, modules: 3 })).rejects.toThrow('unpacks to more than 5000 bytes');
  await expect(archiveOf({ bytes: 29_999, modules: 3 })).rejects.toThrow(
    'has modules of more than 29999 bytes',
  );
  await expect(archiveOf({ bytes: 30_000, modules: 2 })).rejects.toThrow('has more than 2 modules');
});

/** A module that says so much about itself. */
function talkative(bytes: number): Buffer {
  const names = Buffer.from('\0.modinfo\0');
  const module = Buffer.alloc(64 + 2 * 64 + names.length + bytes);
  module.write('\x7fELF\x02\x01', 'latin1');
  module.writeBigUInt64LE(64n, 40);
  module.writeUInt16LE(64, 58);
  module.writeUInt16LE(2, 60);
  const section = (
    index: number,
    { name, at, length }: { name: number; at: number; length: number },
  ): void => {
    module.writeUInt32LE(name, 64 + index * 64);
    module.writeBigUInt64LE(BigInt(at), 64 + index * 64 + 24);
    module.writeBigUInt64LE(BigInt(length), 64 + index * 64 + 32);
  };
  const namesAt = 64 + 2 * 64;
  section(0, { name: 0, at: namesAt, length: names.length });
  section(1, { name: 1, at: namesAt + names.length, length: bytes });
  names.copy(module, namesAt);
  module.write('depends=virtio\0', namesAt + names.length, 'latin1');
  return module;
}

test('what a module says about itself is bounded, however much is in its section', () => {
  expect(readModuleFacts(talkative(1000)).depends).toEqual(['virtio']);
  expect(() => readModuleFacts(talkative(64 << 20))).toThrow('says 67108864 bytes about itself');
});

test('the lists of a package are bounded, each and together', async () => {
  const list = (version: number, bytes: number): EntrySpec =>
    file(`lib/modules/6.${version}/modules.builtin`, `kernel/${'x'.repeat(bytes)}.ko\n`);
  const read = async (...entries: EntrySpec[]): Promise<unknown> => {
    using directory = tempDirectory();
    const path = join(directory.path, 'package.tar');
    writeFileSync(path, tarOf(entries));
    return await readPackage({ path, isDeb: false }, join(directory.path, 'scratch'), () => undefined);
  };
  await expect(read(list(1, 2 << 20))).rejects.toThrow('too many bytes in it');
  const many = [1, 2, 3, 4, 5].map((version) => list(version, 900_000));
  await expect(read(...many)).rejects.toThrow('with "lib/modules/6.5/modules.builtin"');
  expect(await read(...many.slice(1))).toMatchObject({ image: undefined });
});
