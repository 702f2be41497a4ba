import { expect, test } from 'vitest';
import { makeModuleArchive } from '../../../../src/engine/images/kernels/module-archive.ts';
import type { ModuleSource } from '../../../../src/engine/images/kernels/module-tree.ts';

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
