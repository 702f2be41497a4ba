import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openBanger } from '../support/banger.ts';
import { busyboxTar, program } from '../support/images.ts';

const banger = openBanger();
const file = join(banger.home, 'tiny.tar.zst');
let server: Server;
let url: string;

beforeAll(async () => {
  server = createServer((_, response) => void response.end(readFileSync(file)));
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/tiny.tar.zst`;
  await banger.ok(['image', 'import', await busyboxTar(), '--name', 'tiny:1']);
});
afterAll(async () => {
  server.close();
  await banger[Symbol.asyncDispose]();
});

const hash = (): string => createHash('sha256').update(readFileSync(file)).digest('hex');

test('a bundle is written, and the same bytes go to standard output', async () => {
  const summary = await banger.json('image', 'bundle', 'tiny:1', '-o', file);
  expect(summary).toMatchObject({ sha256: hash(), path: file });
  const { bytes, code } = await banger.run(['image', 'bundle', 'tiny:1', '-o', '-']);
  expect([code, bytes.equals(readFileSync(file))]).toEqual([0, true]);
  expect(await program('tar', ['--zstd', '-t', '-f', file])).toBe('manifest.json\nrootfs.ext4\n');
});

test('an image that was deleted comes back from its file, and boots', async () => {
  await banger.ok(['image', 'delete', 'tiny:1']);
  expect(await banger.json('image', 'pull', file)).toMatchObject({
    source: 'bundle',
    names: ['tiny:1'],
    os: 'Tiny Linux',
    hasShell: true,
  });
  await banger.ok(['vm', 'create', '--name', 'one', '--image', 'tiny:1']);
  expect(await banger.guest('one', '. /etc/os-release; echo $ID')).toBe('tiny');
  await banger.ok(['vm', 'delete', 'one']);
});

test('it comes from a server when its hash is given, and boots', async () => {
  await banger.ok(['image', 'delete', 'tiny:1']);
  const unnamed = await banger.run(['image', 'pull', url]);
  expect([unnamed.code, unnamed.stderr]).toEqual([
    1,
    expect.stringMatching(/No hash is given[^]*banger image pull http[^]*--sha256 HEX/),
  ]);
  const wrong = await banger.run(['image', 'pull', `${url}#sha256=${'0'.repeat(64)}`]);
  expect([wrong.code, wrong.stderr]).toEqual([1, expect.stringContaining('has the SHA-256')]);
  expect(await banger.json('image', 'list')).toEqual([]);

  await banger.ok(['image', 'pull', `${url}#sha256=${hash()}`, '--name', 'far']);
  await banger.ok(['vm', 'create', '--name', 'two', '--image', 'far']);
  expect(await banger.guest('two', '. /etc/os-release; echo $ID')).toBe('tiny');
  await banger.ok(['vm', 'delete', 'two']);
});

test('what is no bundle is refused and leaves nothing; options that make no sense are told', async () => {
  const bad = join(banger.home, 'bad.tar.zst');
  writeFileSync(bad, readFileSync(file).subarray(0, 100_000));
  const truncated = await banger.run(['image', 'pull', bad]);
  expect([truncated.code, truncated.stderr]).toEqual([
    1,
    expect.stringContaining(`"${basename(bad)}" is no bundle that can be used`),
  ]);
  expect(readdirSync(join(banger.home, 'state/images/.staging'))).toEqual([]);
  expect((await banger.run(['image', 'pull', './no-such.tar.zst'])).stderr).toContain('There is no file');
  const option = await banger.run(['image', 'pull', 'ubuntu', '--name', 'x']);
  expect([option.code, option.stderr]).toEqual([2, expect.stringContaining('--name is for bundles')]);
});
