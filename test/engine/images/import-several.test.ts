import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { importImage } from '../../../src/engine/images/import-image.ts';
import type { Image } from '../../../src/state/images.ts';
import {
  blob,
  dockerArchive,
  id,
  manifest,
  ociLayout,
  tar,
  write,
  type Files,
} from '../../support/image-archives.ts';
import { imageContext, recordedOperation } from '../../support/image-context.ts';
import { mediaTypes, sha256 } from '../../support/registry.ts';

/** A layout with an entry of its index for each of these names, of which the first is for another image. */
function layoutOf(entries: readonly { readonly name?: string; readonly platform?: object }[]): Files {
  const other = manifest.replace('{', '{"annotations":{"a":"b"},');
  const manifests = entries.map(({ name, platform }, index) => ({
    mediaType: mediaTypes.manifest,
    digest: sha256(index === 0 ? other : manifest),
    size: (index === 0 ? other : manifest).length,
    platform,
    annotations: name === undefined ? undefined : { 'org.opencontainers.image.ref.name': name },
  }));
  return {
    ...ociLayout,
    [blob(other)]: other,
    'index.json': JSON.stringify({ schemaVersion: 2, manifests }),
  };
}

const here = { os: 'linux', architecture: process.arch === 'x64' ? 'amd64' : process.arch };

test.each([{ platform: undefined }, { platform: here }])(
  'of several images in a layout one must be meant ($platform)',
  async ({ platform }) => {
    using context = imageContext();
    const path = join(context.directory, 'layout');
    write(path, layoutOf(['$(reboot)', '2', 'latest'].map((name) => ({ name, platform }))));
    const attempt = (ref?: string): Promise<Image> =>
      importImage(context, { path, name: 'app', ref }, recordedOperation());
    await expect(attempt()).rejects.toMatchObject({
      message: `"${path}" holds 2 images: $(reboot), 2, latest`,
      hint: `Say which one: banger image import ${path} --ref 2`,
    });
    await expect(attempt('3')).rejects.toThrow('holds no image "3", but: $(reboot), 2, latest');
    expect((await attempt('2')).id).toBe(id);
  },
);

test('an image for several machines, or under several tags, is one image', async () => {
  using context = imageContext();
  const path = join(context.directory, 'layout');
  const arm = { os: 'linux', architecture: 'other' };
  write(
    path,
    layoutOf([
      { name: '1', platform: arm },
      { name: '1', platform: here },
      { name: '2', platform: here },
    ]),
  );
  expect((await importImage(context, { path, name: 'app' }, recordedOperation())).id).toBe(id);
});

test('of several images in an archive one is chosen by its name, and of a rootfs there is none', async () => {
  using context = imageContext();
  const [entry] = JSON.parse(dockerArchive['manifest.json'] as string) as { Config: string }[];
  const two = [
    { ...entry, Config: 'other.json', RepoTags: ['other:1'] },
    { ...entry, RepoTags: ['app:latest'] },
  ];
  const path = join(context.directory, 'file');
  writeFileSync(path, tar(context.directory, { ...dockerArchive, 'manifest.json': JSON.stringify(two) }));
  const attempt = (ref: string): Promise<Image> =>
    importImage(context, { path, name: 'mine', ref }, recordedOperation());
  expect((await attempt('docker.io/library/app')).id).toBe(id);
  writeFileSync(path, tar(context.directory, { 'etc/os-release': 'ID=x' }));
  await expect(attempt('app')).rejects.toThrow('no archive of images');
});
