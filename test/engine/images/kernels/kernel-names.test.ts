import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { chooseDefaultKernel, deleteKernel } from '../../../../src/engine/images/kernels/delete-kernel.ts';
import { chooseKernel } from '../../../../src/engine/images/kernels/find-kernel.ts';
import { kernelPaths } from '../../../../src/state/layout.ts';
import { removeUnownedKernels } from '../../../../src/engine/images/kernels/publish-kernel.ts';
import { listKernels } from '../../../../src/state/kernels.ts';
import { pointsOf, runWith } from '../../../support/vm-world.ts';
import { importOf, load, remains, world } from '../../../support/kernel-imports.ts';
import { tinyKernel } from '../../../support/kernels.ts';

const never = new AbortController().signal;

const elf = tinyKernel();

test('of two that race to one name one wins, and the other leaves nothing', async () => {
  const context = world();
  const paths = ['6.1.0-one', '6.1.0-two'].map((version) => context.file(version, tinyKernel({ version })));
  const settled = await Promise.allSettled(paths.map((path) => load(context, path, { name: 'mine' })));
  expect(settled.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
  expect(settled.find(({ status }) => status === 'rejected')).toMatchObject({
    reason: { code: 'already_exists' },
  });
  const [kernel] = listKernels(context.db);
  expect(remains(context)).toEqual([kernel!.id]);
});

test.each(['error', 'enospc', 'eacces'] as const)(
  'an import that fails by %s at any of its points leaves nothing',
  async (failure) => {
    const points = await pointsOf('kernel.import', (operation) => {
      const context = world();
      return importOf(context, operation);
    });
    expect(points).toContain('kernel.import/kernel in place');
    for (const point of points.filter((name) => !name.endsWith('staging removed'))) {
      const context = world();
      const failing = runWith(
        'kernel.import',
        (name) => (name === point ? failure : undefined),
        (operation) => importOf(context, operation),
      );
      await expect(failing, point).rejects.toThrow();
      expect(remains(context), point).toEqual([]);
      expect(listKernels(context.db), point).toEqual([]);
    }
  },
);

test('the same content under two names is one kernel, and loses its names one by one', async () => {
  const context = world();
  const path = context.file('vmlinux', elf);
  const { id } = await load(context, path, { name: 'one' });
  expect((await load(context, path, { name: 'two' })).names).toEqual(['one', 'two']);
  expect(await deleteKernel(context, 'one', never)).toEqual({ untagged: ['one'], deleted: null });
  expect(await deleteKernel(context, 'two', never)).toEqual({ untagged: ['two'], deleted: id });
  expect(remains(context)).toEqual([]);
});

test('the default is not deleted, and the embedded kernel never', async () => {
  const context = world();
  await load(context, context.file('vmlinux', elf), { name: 'mine' });
  await chooseDefaultKernel(context, 'mine', never);
  expect(chooseKernel(context.db, undefined)?.names).toEqual(['mine']);
  await expect(deleteKernel(context, 'mine', never)).rejects.toThrow('Kernel "mine" is the default');
  await expect(deleteKernel(context, 'embedded', never)).rejects.toThrow('cannot be deleted');
  await chooseDefaultKernel(context, 'embedded', never);
  await deleteKernel(context, 'mine', never);
  await expect(load(context, context.file('again', elf), { name: 'embedded' })).rejects.toThrow(
    'inside banger',
  );
});

test('a directory that no row owns goes when an engine starts', async () => {
  const context = world();
  const kernel = await load(context, context.file('vmlinux', elf));
  mkdirSync(join(context.layout.kernelsDirectory, 'f'.repeat(64)));
  await removeUnownedKernels(context.layout, context.db);
  expect(remains(context)).toEqual([kernel.id]);

  // One that was finished once is kept: an older copy of the database does not know it.
  context.db.prepare('DELETE FROM kernel_names').run();
  context.db.prepare('DELETE FROM kernels').run();
  const { directory } = kernelPaths(context.layout, kernel.id);
  expect(await removeUnownedKernels(context.layout, context.db)).toEqual([directory]);
  expect(remains(context)).toEqual([kernel.id]);
});
