import { readdirSync, readFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, expect, test } from 'vitest';
import { openBanger, until } from '../support/banger.ts';
import { busyboxTar } from '../support/images.ts';

const banger = openBanger();
afterAll(() => banger[Symbol.asyncDispose]());

const staging = join(banger.home, 'state/images/.staging');
const staged = (): string[] => (existsSync(staging) ? readdirSync(staging) : []);

test('a rootfs and an archive come through standard input, compressed or not', async () => {
  const tar = readFileSync(await busyboxTar());
  const plain = await banger.run(['image', 'import', '-', '--name', 'plain', '--json'], { input: tar });
  const zipped = await banger.run(['image', 'import', '-', '--name', 'zipped', '--json'], {
    input: gzipSync(tar),
  });
  const [one, two] = [plain, zipped].map(({ stdout }) => JSON.parse(stdout) as { id: string; os: string });
  expect(one!.os).toBe('Tiny Linux');
  expect(two!.id).toBe(one!.id);

  const { bytes } = await banger.run(['image', 'export', 'plain']);
  const back = await banger.run(['image', 'import', '-', '--name', 'back', '--json'], { input: bytes });
  expect(JSON.parse(back.stdout), back.stderr).toMatchObject({ names: ['back:latest'], os: 'Tiny Linux' });
  expect(staged()).toEqual([]);
});

test('input that is no archive is an error about standard input', async () => {
  const { code, stderr } = await banger.run(['image', 'import', '-', '--name', 'x'], {
    input: 'no archive '.repeat(999),
  });
  expect(code).toBe(1);
  expect(stderr).toContain('standard input');
  expect(stderr).not.toContain('.staging');
});

test('a name is needed', async () => {
  const { code, stderr } = await banger.run(['image', 'import', '-'], { input: '' });
  expect([code, stderr]).toEqual([2, expect.stringContaining('--name NAME')]);
});

test.each(['SIGINT', 'SIGKILL'] as const)('%s in the middle leaves nothing', async (signal) => {
  const child = banger.start(['image', 'import', '-', '--name', 'half']);
  child.stdin?.on('error', () => undefined);
  // A whole archive, but nobody says that it was all.
  child.stdin?.write(readFileSync(await busyboxTar()));
  await until('the engine receives it', () => staged().length > 0);
  child.kill(signal);
  const code = await new Promise<number | null>((done) => child.once('close', done));
  expect(code).toBe(signal === 'SIGINT' ? 130 : null);
  await until('what was received is gone', () => staged().length === 0);
  expect((await banger.run(['image', 'show', 'half'])).code).toBe(1);
});
