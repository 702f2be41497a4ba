/** An image of two layers as the tools of others write it: for import. Its layers are no tars. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { mediaTypes, sha256 } from './registry.ts';

export type Files = Readonly<Record<string, string | { readonly link: string }>>;

export const layers = ['first layer', 'second layer'] as const;
export const config = JSON.stringify({
  os: 'linux',
  architecture: process.arch === 'x64' ? 'amd64' : process.arch,
  config: { Env: ['A=1'] },
  rootfs: { type: 'layers', diff_ids: layers.map((layer) => sha256(layer)) },
});
export const id = sha256(config).slice(7);
export const blob = (content: string): string => `blobs/sha256/${sha256(content).slice(7)}`;

export const dockerArchive: Files = {
  'manifest.json': JSON.stringify(
    [{ Config: `${id}.json`, RepoTags: ['a:1'], Layers: ['a/layer.tar', 'b/layer.tar'] }].map((entry) => ({
      ...entry,
      Layers: entry.Layers.map((name) => `${'0'.repeat(63)}${name}`),
    })),
  ),
  [`${id}.json`]: config,
  [`${'0'.repeat(63)}a/layer.tar`]: layers[0],
  [`${'0'.repeat(63)}c/layer.tar`]: layers[1],
  [`${'0'.repeat(63)}b/layer.tar`]: { link: `../${'0'.repeat(63)}c/layer.tar` },
};
export const manifest = JSON.stringify({
  schemaVersion: 2,
  config: { mediaType: mediaTypes.config, digest: sha256(config), size: config.length },
  layers: layers.map((layer) => ({ mediaType: mediaTypes.layer, digest: sha256(layer), size: layer.length })),
});
export const ociLayout: Files = {
  'oci-layout': '{"imageLayoutVersion":"1.0.0"}',
  'index.json': JSON.stringify({
    schemaVersion: 2,
    manifests: [{ mediaType: mediaTypes.manifest, digest: sha256(manifest), size: manifest.length }],
  }),
  ...Object.fromEntries([manifest, config, ...layers].map((content) => [blob(content), content])),
};

export function write(directory: string, files: Files): void {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    if (typeof content === 'string') writeFileSync(join(directory, name), content);
    else symlinkSync(content.link, join(directory, name));
  }
}

/** Writes files as a tar, the way the outside world does: with GNU tar. */
export function tar(directory: string, files: Files): Buffer {
  const tree = join(directory, 'tree');
  write(tree, files);
  return execFileSync('tar', ['-C', tree, '-c', ...Object.keys(files)], { maxBuffer: 2 ** 26 });
}
