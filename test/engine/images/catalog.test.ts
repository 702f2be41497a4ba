import { expect, test } from 'vitest';
import {
  embeddedCatalog,
  expandShortName,
  wholeCatalog,
  type OwnCatalog,
} from '../../../src/engine/images/catalog.ts';
import { ensureImage } from '../../../src/engine/images/ensure-image.ts';
import { findImage } from '../../../src/engine/images/find-image.ts';
import { imageCatalogRoute } from '../../../src/engine/images/handlers.ts';
import { toImageView } from '../../../src/engine/images/image-views.ts';
import { pullImage } from '../../../src/engine/images/pull-image.ts';
import { canonicalName, parseReference } from '../../../src/engine/images/reference.ts';
import { renameImage, tagImage } from '../../../src/engine/images/tag-image.ts';
import { parseConfig } from '../../../src/state/config.ts';
import { listImages } from '../../../src/state/images.ts';
import { imageContext, recordedOperation } from '../../support/image-context.ts';
import { putImage, startRegistry } from '../../support/registry.ts';

const { signal } = new AbortController();

test('every entry of the catalog is a full reference under a short name', () => {
  for (const { name, reference } of embeddedCatalog) {
    const { registry, repository } = parseReference(reference);
    expect(reference.startsWith(`${registry}/${repository}`), reference).toBe(true);
    expect(expandShortName(name, {})).toBe(reference);
  }
  const names = embeddedCatalog.map((entry) => entry.name);
  expect(names).toEqual([...new Set(names)].sort());
});

test('an entry never gives a name of an official image to another one', () => {
  for (const { name, reference } of embeddedCatalog) {
    const { repository } = parseReference(reference);
    if (repository === `library/${name}`)
      expect(canonicalName(parseReference(reference))).toBe(canonicalName(parseReference(name)));
  }
});

test.each<[string, OwnCatalog, string | undefined]>([
  ['rocky', {}, 'docker.io/rockylinux/rockylinux:9'],
  ['rocky:8', {}, 'docker.io/rockylinux/rockylinux:8'],
  [`go@sha256:${'a'.repeat(64)}`, {}, `docker.io/library/golang@sha256:${'a'.repeat(64)}`],
  ['library/go', {}, undefined],
  ['unheard-of', {}, undefined],
  ['toString', {}, undefined],
  ['constructor', {}, undefined],
  ['ubuntu', { ubuntu: 'mirror.example:5000/os/ubuntu:noble' }, 'mirror.example:5000/os/ubuntu:noble'],
  ['ubuntu:22.04', { ubuntu: 'mirror.example:5000/os/ubuntu:noble' }, 'mirror.example:5000/os/ubuntu:22.04'],
  ['app', { app: 'app:stable' }, 'docker.io/library/app:stable'],
])('%s with %j means %s', (reference, own, meaning) => {
  expect(expandShortName(reference, own)).toBe(meaning);
});

test('a wrong entry of the user is an error that names it', () => {
  expect(() => expandShortName('app', { app: 'https://x/y' })).toThrow(/^Catalog entry "app": .*it is a URL/);
  expect(() => parseConfig('[catalog]\n"a/b" = "x"', 'config.toml')).toThrow('a short name is lowercase');
});

test('an entry is here when the image that it stands for is, whatever else has its name', async () => {
  await using registry = await startRegistry();
  using context = imageContext({ config: `[catalog]\napp = "${registry.host}/team/app:1"` });
  putImage(registry, 'team/app', { tag: '1' });
  putImage(registry, 'other');
  const isHere = (): boolean => imageCatalogRoute(context).find(({ name }) => name === 'app')!.isPresent;
  await pullImage(context, `${registry.host}/other`, recordedOperation());
  await tagImage(context, { reference: `${registry.host}/other`, name: 'app' }, signal);
  expect(isHere()).toBe(false);
  await pullImage(context, 'app', recordedOperation());
  expect(isHere()).toBe(true);
});

test('a wrong entry of the user is listed with what is wrong, among the others', () => {
  using context = imageContext({ config: '[catalog]\nbad = "Not A Ref"\ngood = "a.example/b"' });
  const listed = imageCatalogRoute(context).filter((entry) => entry.isOwn);
  expect(listed).toMatchObject([
    { name: 'bad', description: expect.stringContaining('is not an image reference'), isPresent: false },
    { name: 'good', description: '', isPresent: false },
  ]);
});

test("the user's entries replace those of the same name", () => {
  const all = wholeCatalog({ ubuntu: 'a/b', zz: 'c/d' });
  expect(all.filter((entry) => entry.isOwn).map((entry) => entry.name)).toEqual(['ubuntu', 'zz']);
  expect(all.filter((entry) => entry.name === 'ubuntu')).toHaveLength(1);
});

test('a short name is pulled from where the catalog says, and found by it afterwards', async () => {
  await using registry = await startRegistry();
  putImage(registry, 'team/app');
  using context = imageContext({ config: `[catalog]\napp = "${registry.host}/team/app"` });
  const image = await pullImage(context, 'app', recordedOperation());
  expect(image.names).toEqual([`${registry.host}/team/app:latest`]);
  expect(findImage(context.db, 'app', context.config().catalog)?.id).toBe(image.id);

  registry.requests.length = 0;
  expect((await ensureImage(context, 'app', recordedOperation())).id).toBe(image.id);
  expect(registry.requests).toEqual([]);
});

test('a local name that the catalog lists, too, is found as long as the listed image is not here', async () => {
  await using registry = await startRegistry();
  putImage(registry, 'mine');
  using context = imageContext();
  const mine = await pullImage(context, `${registry.host}/mine`, recordedOperation());
  await tagImage(context, { reference: mine.id, name: 'rocky' }, signal);
  expect((await ensureImage(context, 'rocky', recordedOperation())).id).toBe(mine.id);
});

test('a name as lists show it is the image beside which they show it, also where the catalog has another one', async () => {
  using context = imageContext();
  await using registry = await startRegistry();
  const ids: string[] = [];
  for (const name of ['golang', 'own']) {
    putImage(registry, name, { env: [`NAME=${name}`] });
    ids.push((await pullImage(context, `${registry.host}/${name}`, recordedOperation())).id);
  }
  const [golang, own] = ids as [string, string];
  await tagImage(context, { reference: golang, name: 'docker.io/library/golang' }, signal);
  await tagImage(context, { reference: own, name: 'go' }, signal);
  for (const image of listImages(context.db))
    for (const name of toImageView(context.db, image).names)
      expect(findImage(context.db, name)?.id, name).toBe(image.id);
  expect(findImage(context.db, 'go')?.id).toBe(golang);
  const renamed = await renameImage(context, { reference: 'go:latest', name: 'mine' }, signal);
  expect([renamed.id, renamed.names]).toEqual([
    own,
    expect.arrayContaining(['docker.io/library/mine:latest']),
  ]);
  expect(findImage(context.db, 'golang')?.id).toBe(golang);
});
