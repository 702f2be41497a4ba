import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createHash } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { KernelView } from '../../src/engine/rpc/kernel-methods.ts';
import { openBanger } from '../support/banger.ts';
import { bzImage, compressors, kernelPackage } from '../support/kernels.ts';

const banger = openBanger();
const found = kernelPackage();
const deb = 'path' in found ? found.path : '';
if ('missing' in found) process.stderr.write(`kernels are not tested: ${found.missing}\n`);
const withPackage = test.skipIf('missing' in found);
let server: Server;

beforeAll(async () => {
  server = createServer((_, response) => void response.end(readFileSync(deb)));
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
});
afterAll(async () => {
  server.close();
  await banger[Symbol.asyncDispose]();
});

withPackage("a VM boots the kernel of Debian's package, keeps it, and guards it", async () => {
  const kernel = await banger.json<KernelView>('kernel', 'import', deb, '--name', 'deb');
  expect(kernel).toMatchObject({ source: 'import', format: 'elf', isDefault: false, warnings: [] });
  await banger.ok(['vm', 'create', '--name', 'one', '--kernel', 'deb']);
  expect(await banger.guest('one', 'uname -r')).toBe(kernel.version);
  expect(await banger.json('vm', 'show', 'one')).toMatchObject({ kernel: 'deb' });

  const refused = await banger.run(['kernel', 'delete', 'deb']);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain('Kernel "deb" is used by VM "one"');
  await banger.ok(['kernel', 'set-default', 'deb']);
  await banger.ok(['vm', 'create', '--no-start', '--name', 'two']);
  await banger.ok(['kernel', 'set-default', 'embedded']);
  expect(await banger.json('vm', 'show', 'two')).toMatchObject({ kernel: 'deb' });
  await banger.ok(['vm', 'delete', 'one', 'two']);
});

withPackage(
  'its vmlinux packed anew by xz into a bzImage, with its modules from the package, boots too',
  async () => {
    const { id } = await banger.json<KernelView>('kernel', 'show', 'deb');
    const vmlinux = readFileSync(join(banger.home, 'state/kernels', id, 'vmlinux'));
    const image = join(banger.home, 'vmlinuz-xz');
    writeFileSync(image, bzImage(compressors.xz(vmlinux), { unpackedBytes: vmlinux.length }));
    const alone = await banger.run(['kernel', 'import', image, '--name', 'bare']);
    expect(alone.stderr).toMatch(/has no .*virtio_blk.* built in.*\n.*--modules/);

    const again = await banger.json<KernelView>('kernel', 'import', image, '--modules', deb, '--name', 'xz');
    // The same content: one kernel, two names.
    expect(again).toMatchObject({ id, names: ['deb', 'xz'] });
    await banger.ok(['vm', 'create', '--name', 'three', '--kernel', 'xz']);
    expect(await banger.guest('three', 'uname -r')).toBe(again.version);
    await banger.ok(['vm', 'delete', 'three']);
    rmSync(image);
  },
);

withPackage('a pull needs the hash, and takes only what has it', async () => {
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/kernel.deb`;
  const sha256 = createHash('sha256').update(readFileSync(deb)).digest('hex');
  expect((await banger.run(['kernel', 'pull', url])).stderr).toContain('No hash is given');
  const wrong = await banger.run([
    'kernel',
    'pull',
    url,
    '--sha256',
    sha256.replace(/^./, (digit) => (digit === '0' ? '1' : '0')),
  ]);
  expect(wrong.stderr).toContain(`has the SHA-256 ${sha256}`);
  const pulled = await banger.json<KernelView>('kernel', 'pull', `${url}#sha256=${sha256}`, '--name', 'net');
  expect(pulled.names).toContain('net');
});
