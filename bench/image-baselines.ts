/** What a pull is measured beside: the tools that people put together for the same, and gunzip alone. */
import { createReadStream, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createGunzip } from 'node:zlib';
import { extract } from 'tar';
import { program } from '../test/support/images.ts';

const filesystemBytes = String(8 * 1024 ** 3);

/** Copies an image of a registry, unpacks it, and makes a filesystem of it. */
export async function withTools(host: string, name: string, scratch: string): Promise<void> {
  const layout = join(scratch, 'layout');
  const source = `docker://${host}/${name}:test`;
  await program('skopeo', [
    '--insecure-policy',
    'copy',
    '--src-tls-verify=false',
    source,
    `oci:${layout}:test`,
  ]);
  await program('umoci', ['unpack', '--image', `${layout}:test`, join(scratch, 'bundle')]);
  await makeFilesystem(join(scratch, 'bundle/rootfs'), scratch);
}

/** Extracts layers that hide nothing of each other, and makes a filesystem of them. */
export async function withNodeTar(layout: string, scratch: string): Promise<void> {
  const cwd = join(scratch, 'extracted');
  mkdirSync(cwd);
  for (const blob of layerBlobs(layout)) await extract({ file: blob, cwd, preserveOwner: true });
  await makeFilesystem(cwd, scratch);
}

async function makeFilesystem(tree: string, scratch: string): Promise<void> {
  const image = join(scratch, 'rootfs.ext4');
  await program('truncate', ['-s', filesystemBytes, image]);
  await program('mkfs.ext4', ['-q', '-F', '-d', tree, image]);
}

/** As fast as Node does it: in large pieces, which is faster than in the default ones. */
export async function gunzipLayers(layout: string): Promise<void> {
  for (const blob of layerBlobs(layout)) {
    const input = createReadStream(blob, { highWaterMark: 1 << 20 });
    const output = input.pipe(createGunzip({ chunkSize: 1 << 18 })) as AsyncIterable<Buffer>;
    for await (const chunk of output) if (chunk.length === 0) throw new Error('an empty chunk');
  }
}

function layerBlobs(layout: string): string[] {
  const blob = (digest: string): string => join(layout, 'blobs/sha256', digest.slice('sha256:'.length));
  const parse = (path: string): unknown => JSON.parse(readFileSync(path, 'utf8'));
  const index = parse(join(layout, 'index.json')) as { manifests: { digest: string }[] };
  const manifest = parse(blob(index.manifests[0]!.digest)) as { layers: { digest: string }[] };
  return manifest.layers.map(({ digest }) => blob(digest));
}
