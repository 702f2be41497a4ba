import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openBanger } from '../support/banger.ts';
import { busyboxTar, program } from '../support/images.ts';
import { startRegistryServer, type RegistryServer } from '../support/registry-server.ts';

const banger = openBanger();
const work = mkdtempSync(join(tmpdir(), 'bt-export-'));
let registry: RegistryServer;
let pulled: string;

beforeAll(async () => {
  registry = await startRegistryServer();
  const layout = join(work, 'layout');
  await program('umoci', ['init', '--layout', layout]);
  await program('umoci', ['new', '--image', `${layout}:test`]);
  await program('umoci', ['raw', 'add-layer', '--image', `${layout}:test`, await busyboxTar()]);
  await program('umoci', [
    'config',
    '--image',
    `${layout}:test`,
    '--config.env',
    'A=1',
    '--config.label',
    'l=2',
  ]);
  await registry.push(layout, 'tiny:test');
  pulled = `${registry.host}/tiny:test`;
  await banger.ok(['image', 'pull', pulled]);
});
afterAll(async () => {
  rmSync(work, { recursive: true, force: true });
  await banger[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
});

interface Inspected {
  readonly Digest: string;
  readonly Layers: readonly string[];
  readonly Labels: Readonly<Record<string, string>>;
}

const inspect = async (transport: string): Promise<Inspected> =>
  JSON.parse(await program('skopeo', ['inspect', transport])) as Inspected;

test('a pulled image leaves with the digest and the layers it came with', async () => {
  const file = join(work, 'pulled.tar');
  const summary = await banger.json('image', 'export', pulled, '-o', file);
  const original = JSON.parse(
    await program('skopeo', ['inspect', '--tls-verify=false', `docker://${pulled}`]),
  ) as Inspected;
  expect(summary).toMatchObject({ digest: original.Digest, original: true });
  const layout = await inspect(`oci-archive:${file}`);
  expect(layout).toMatchObject({ Digest: original.Digest, Layers: original.Layers, Labels: { l: '2' } });
  // As docker load reads it, too; skopeo names layers by their contents there.
  expect((await inspect(`docker-archive:${file}`)).Layers).toHaveLength(original.Layers.length);
});

test('umoci unpacks an export in the OCI format', async () => {
  const file = join(work, 'oci.tar');
  await banger.ok(['image', 'export', pulled, '--format', 'oci', '-o', file]);
  const layout = join(work, 'unpacked-layout');
  await program('mkdir', [layout]);
  await program('tar', ['-x', '-f', file, '-C', layout]);
  const bundle = join(work, 'bundle');
  await program('umoci', ['unpack', '--rootless', '--image', `${layout}:test`, bundle]);
  expect(readFileSync(join(bundle, 'rootfs/etc/os-release'), 'utf8')).toContain('Tiny Linux');
});

test('a layout is written as a directory, never into one that holds something', async () => {
  const layout = join(work, 'directory');
  const summary = await banger.json<{ digest: string }>(
    'image',
    'export',
    pulled,
    '--format',
    'oci-dir',
    '-o',
    layout,
  );
  expect(await inspect(`oci:${layout}`)).toMatchObject({ Digest: summary.digest, Labels: { l: '2' } });
  await program('umoci', [
    'unpack',
    '--rootless',
    '--image',
    `${layout}:test`,
    join(work, 'directory-bundle'),
  ]);
  expect(readFileSync(join(work, 'directory-bundle/rootfs/etc/os-release'), 'utf8')).toContain('Tiny Linux');

  const again = await banger.run(['image', 'export', pulled, '--format', 'oci-dir', '-o', layout]);
  expect([again.code, again.stderr]).toEqual([1, expect.stringContaining('is not an empty directory')]);
  const failed = await banger.run(['image', 'export', 'none', '--format', 'oci-dir', '-o', `${layout}-2`]);
  expect([failed.code, failed.stderr]).toEqual([1, expect.stringContaining('There is no image "none"')]);
  expect(readdirSync(work).filter((name) => name.includes('directory-2'))).toEqual([]);
  const unnamed = await banger.run(['image', 'export', pulled, '--format', 'oci-dir']);
  expect([unnamed.code, unnamed.stderr]).toEqual([2, expect.stringContaining('-o DIRECTORY')]);
});

test('an imported image gets one layer, is read by skopeo and umoci, and boots when it comes back', async () => {
  await banger.ok(['image', 'import', await busyboxTar(), '--name', 'mine:1']);
  const file = join(work, 'mine.tar');
  expect(await banger.json('image', 'export', 'mine:1', '-o', file)).toMatchObject({
    original: false,
    layers: 1,
  });
  expect((await inspect(`docker-archive:${file}`)).Layers).toHaveLength(1);
  await program('skopeo', ['copy', `docker-archive:${file}`, `oci:${join(work, 'copied')}:x`]);
  await program('umoci', [
    'unpack',
    '--rootless',
    '--image',
    `${join(work, 'copied')}:x`,
    join(work, 'copied-bundle'),
  ]);
  expect(readFileSync(join(work, 'copied-bundle/rootfs/etc/os-release'), 'utf8')).toContain('Tiny Linux');

  await banger.ok(['image', 'import', file, '--name', 'again']);
  await banger.ok(['vm', 'create', '--name', 'again', '--image', 'again']);
  expect(await banger.guest('again', '. /etc/os-release; echo $ID')).toBe('tiny');
  await banger.ok(['vm', 'delete', 'again']);
});

test('two exports are the same bytes, on standard output as in a file', async () => {
  const sum = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
  const file = join(work, 'base.tar');
  await banger.ok(['image', 'export', 'base', '-o', file]);
  const { bytes, code } = await banger.run(['image', 'export', 'base']);
  expect(code).toBe(0);
  expect(sum(bytes)).toBe(sum(readFileSync(file)));
});

test('an export that fails or is cancelled leaves no file', async () => {
  const directory = mkdtempSync(join(work, 'none-'));
  const file = join(directory, 'x.tar');
  const failed = await banger.run(['image', 'export', 'no-such-image', '-o', file]);
  expect(failed.code).toBe(1);
  expect(failed.stderr).toContain('There is no image "no-such-image"');
  const child = banger.start(['image', 'export', 'mine:1', '-o', file]);
  child.stderr?.once('data', () => child.kill('SIGINT'));
  const code = await new Promise<number | null>((done) => child.once('close', done));
  if (code !== 0) expect(existsSync(file)).toBe(false);
  expect(readdirSync(directory)).toEqual(code === 0 ? ['x.tar'] : []);
  expect(
    (await banger.run(['image', 'export', 'mine:1', '-o', join(directory, 'no/such/dir.tar')])).stderr,
  ).toContain('cannot be written: there is no directory for it');
});
