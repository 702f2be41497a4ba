import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { importImage } from '../../../src/engine/images/import-image.ts';
import { convertLayers } from '../../../src/engine/images/layers/layers.ts';
import type { Image } from '../../../src/state/images.ts';
import { imagePaths } from '../../../src/state/layout.ts';
import {
  blob,
  config,
  dockerArchive,
  id,
  layers,
  ociLayout,
  tar,
  write,
  type Files,
} from '../../support/image-archives.ts';
import { imageContext, recordedOperation } from '../../support/image-context.ts';
import { filter } from '../../support/kernels.ts';

async function importOf(
  prepare: (directory: string) => string,
): Promise<{ image: Image; content: string; staging: string[] }> {
  using context = imageContext();
  const path = prepare(context.directory);
  const image = await importImage(context, { path, name: 'app' }, recordedOperation());
  const content = readFileSync(imagePaths(context.layout, image.id).rootfs, 'latin1');
  return { image, content, staging: await readdir(context.layout.imageStagingDirectory) };
}

const compressions = {
  plain: (bytes: Buffer) => bytes,
  gzip: gzipSync,
  zstd: zstdCompressSync,
  xz: (bytes: Buffer) => filter(['xz', '-c'], bytes),
};

test.each(
  Object.entries(compressions).flatMap(([name, compress]) => [
    { what: `a ${name} docker archive`, files: dockerArchive, compress },
    { what: `a ${name} OCI archive`, files: ociLayout, compress },
  ]),
)('$what becomes the image of its config', async ({ files, compress }) => {
  const { image, content, staging } = await importOf((directory) => {
    const path = join(directory, 'file');
    writeFileSync(path, compress(tar(directory, files)));
    return path;
  });
  expect(image).toMatchObject({ id, source: 'import', names: ['docker.io/library/app:latest'] });
  expect(image.config.env).toEqual(['A=1']);
  expect(content).toBe(layers.join(''));
  expect(staging).toEqual([]);
});

test('an archive that is larger than any buffer is unpacked as it was', async () => {
  const large = randomBytes(4_000_000).toString('hex');
  const name = `${'0'.repeat(63)}c/layer.tar`;
  const { content } = await importOf((directory) => {
    const path = join(directory, 'file');
    writeFileSync(path, gzipSync(tar(directory, { ...dockerArchive, [name]: large }), { level: 1 }));
    return path;
  });
  expect(content === layers.map((layer) => (layer === layers[1] ? large : layer)).join('')).toBe(true);
});

test('an OCI layout directory becomes the image of its config', async () => {
  const { image, content } = await importOf((directory) => {
    write(join(directory, 'layout'), ociLayout);
    return join(directory, 'layout');
  });
  expect(image.id).toBe(id);
  expect(content).toBe(layers.join(''));
});

test.each(Object.entries(compressions))('a %s rootfs tar is one layer', async (_, compress) => {
  let bytes: Buffer = Buffer.alloc(0);
  const { image, content } = await importOf((directory) => {
    bytes = compress(tar(directory, { 'etc/os-release': 'ID=x', 'manifest.json': '{"an": "app"}' }));
    writeFileSync(join(directory, 'file'), bytes);
    return join(directory, 'file');
  });
  expect(image.layers).toHaveLength(1);
  expect(content).toBe(bytes.toString('latin1'));
});

test.each<[string, Files, string]>([
  [
    'lacks a layer',
    { ...dockerArchive, [`${'0'.repeat(63)}b/layer.tar`]: { link: '../../../../etc/passwd' } },
    'lacks',
  ],
  [
    'links in circles',
    { ...dockerArchive, [`${'0'.repeat(63)}b/layer.tar`]: { link: 'layer.tar' } },
    'lacks',
  ],
  [
    'names files outside',
    { ...dockerArchive, 'manifest.json': '[{"Config":"../../etc/passwd","Layers":["x"]}]' },
    'lacks',
  ],
  ['has a bad manifest.json', { ...dockerArchive, 'manifest.json': '{}' }, 'not what docker save writes'],
  [
    'has a changed config',
    { ...ociLayout, [blob(config)]: config.replace('A=1', 'A=2') },
    'another hash or size',
  ],
  [
    'holds two images',
    {
      ...dockerArchive,
      'manifest.json': JSON.stringify(
        ['a', 'b'].map((name) => ({ Config: `${name}.json`, RepoTags: [`${name}:1`], Layers: ['x'] })),
      ),
    },
    'holds 2 images: a:1, b:1',
  ],
])('an archive that %s is refused', async (_, files, why) => {
  const failing = importOf((directory) => {
    writeFileSync(join(directory, 'file'), tar(directory, files));
    return join(directory, 'file');
  });
  await expect(failing).rejects.toThrow(why);
});

test('an archive as jib writes it is one, whatever its files are called', async () => {
  const { image, content } = await importOf((directory) => {
    const jib: Files = {
      'a.tar': layers[0],
      'b.tar': layers[1],
      'config.json': config,
      'manifest.json': JSON.stringify([
        { Config: 'config.json', RepoTags: ['jib:1'], Layers: ['a.tar', 'b.tar'] },
      ]),
    };
    writeFileSync(join(directory, 'file'), tar(directory, jib));
    return join(directory, 'file');
  });
  expect(image.id).toBe(id);
  expect(content).toBe(layers.join(''));
});

test('what is not there, not an archive or badly named says so', async () => {
  using context = imageContext();
  const attempt = (path: string, name: string): Promise<Image> =>
    importImage(context, { path, name }, recordedOperation());
  await expect(attempt('/nowhere/x', 'app')).rejects.toMatchObject({ code: 'not_found' });
  await expect(attempt(context.directory, 'app')).rejects.toThrow('not an OCI layout');
  await expect(attempt('/dev/null', 'app')).rejects.toThrow('neither a file nor a directory');
  await expect(attempt('/nowhere/x', 'base')).rejects.toThrow('the image inside banger');
  await expect(attempt('/nowhere/x', `a@sha256:${'0'.repeat(64)}`)).rejects.toThrow('has a digest');
});

test.each([
  [undefined, (path: string) => `"${path}" is not a tar file`],
  ['1.2', (path: string) => `"${path}" is not a tar file, so that "1.2" is not in it`],
])('a file that is no tar is told as that, with --ref %s', async (ref, message) => {
  using context = imageContext({ tools: { convert: convertLayers } });
  const path = join(context.directory, 'hostname');
  writeFileSync(path, 'here\n');
  await expect(importImage(context, { path, name: 'app', ref }, recordedOperation())).rejects.toMatchObject({
    code: 'invalid_argument',
    message: message(path),
    hint: expect.stringContaining('A file is imported when it is a tar of a root filesystem'),
  });
});

test.each(
  Object.entries(compressions).flatMap(([name, compress]) => [
    { what: `a ${name} docker archive`, files: dockerArchive, compress },
    { what: `a ${name} OCI archive`, files: ociLayout, compress },
  ]),
)(
  '$what that tar made of a directory, with a file of somebody in it, is one',
  async ({ files, compress }) => {
    const { image, content } = await importOf((directory) => {
      const tree = join(directory, 'tree');
      write(tree, { ...files, 'README.md': 'what this is', 'a/b': 'c' });
      const path = join(directory, 'file');
      writeFileSync(path, compress(execFileSync('tar', ['-C', tree, '--sort=name', '-c', '.'])));
      return path;
    });
    expect(image.id).toBe(id);
    expect(content).toBe(layers.join(''));
  },
);

test.each(Object.entries(compressions))(
  'a %s rootfs without the usual directories is one, whatever JSON is in it',
  async (_, compress) => {
    let bytes: Buffer = Buffer.alloc(0);
    const { content } = await importOf((directory) => {
      bytes = compress(tar(directory, { app: 'ELF', 'manifest.json': '{"an": "app"}' }));
      writeFileSync(join(directory, 'file'), bytes);
      return join(directory, 'file');
    });
    expect(content).toBe(bytes.toString('latin1'));
  },
);
