import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { toKernelDetails } from '../../../../src/engine/images/kernels/kernel-views.ts';
import { pullKernel } from '../../../../src/engine/images/kernels/pull-kernel.ts';
import { imageContext, recordedOperation } from '../../../support/image-context.ts';
import { tinyKernel } from '../../../support/kernels.ts';

/** The address of a server that has a kernel for whoever has the key. */
async function kernelServer(content: Buffer): Promise<string> {
  const server = createServer((request, response) => {
    if (request.url?.endsWith('?token=s3cret')) response.end(content);
    else response.writeHead(403).end();
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  onTestFinished(() => void server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/vmlinux`;
}

function filesBelow(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .map((name) => join(directory, name))
    .filter((path) => statSync(path).isFile());
}

test('the key in an address is used, and neither kept nor shown', async () => {
  const content = tinyKernel();
  const sha256 = createHash('sha256').update(content).digest('hex');
  const address = await kernelServer(content);
  const source = `${address}?token=s3cret`;
  using context = imageContext();
  const pull = (hash: string): ReturnType<typeof pullKernel> =>
    pullKernel(context, { source, sha256: hash, name: 'keyed' }, recordedOperation());

  const wrong: unknown = await pull('0'.repeat(64)).catch((error: unknown) => error);
  expect(wrong).toMatchObject({ message: expect.stringContaining(`"${address}?…" has the SHA-256`) });
  expect(JSON.stringify([wrong, String(wrong)])).not.toContain('s3cret');

  const kernel = await pull(sha256);
  expect(kernel.origin).toBe(`${address}?…#sha256=${sha256}`);
  expect(JSON.stringify(await toKernelDetails(context, kernel))).not.toContain('s3cret');
  const files = filesBelow(context.directory);
  expect(files.some((path) => path.endsWith('kernel.json'))).toBe(true);
  for (const path of files) expect(readFileSync(path).includes('s3cret'), path).toBe(false);
});
