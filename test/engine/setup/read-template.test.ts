import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readTemplate } from '../../../src/engine/setup/read-template.ts';
import { makeTempDirectory } from '../../support/git-repo.ts';

let tree: string;
let remove: () => void;
beforeEach(() => {
  ({ path: tree, remove } = makeTempDirectory());
});
afterEach(() => remove());

const read = (file?: string) => readTemplate(tree, { hasImage: false, file });
const write = (file: string, text: string): void => writeFileSync(join(tree, file), text);

test('a tree without such a file says nothing', async () => {
  expect(await read()).toBeUndefined();
  // A file of that name is no directory of it.
  write('.devcontainer', '');
  expect(await read()).toBeUndefined();
});

test('banger.toml comes before .devcontainer/devcontainer.json, and that before .devcontainer.json', async () => {
  write('.devcontainer.json', '{"image": "three"}');
  expect((await read())?.template).toMatchObject({ file: '.devcontainer.json', image: 'three' });
  mkdirSync(join(tree, '.devcontainer'));
  write('.devcontainer/devcontainer.json', '{"image": "two"}');
  expect((await read())?.template).toMatchObject({ file: '.devcontainer/devcontainer.json', image: 'two' });
  const text = 'image = "one"\n';
  write('banger.toml', text);
  expect((await read())?.template).toMatchObject({
    file: 'banger.toml',
    image: 'one',
    sha256: createHash('sha256').update(text).digest('hex'),
  });
});

test('symlinks, pipes, directories, large files and other encodings are refused, not read', async () => {
  write('elsewhere', 'image = "x"\n');
  const path = join(tree, 'banger.toml');
  symlinkSync('elsewhere', path);
  await expect(read()).rejects.toThrow(`"${path}" is a symlink, and is not used`);
  rmSync(path);
  execFileSync('mkfifo', [path]);
  await expect(read()).rejects.toThrow('is not a regular file');
  rmSync(path);
  mkdirSync(path);
  await expect(read()).rejects.toThrow('is not a regular file');
  rmSync(path, { recursive: true });
  write('banger.toml', '#'.repeat(64 * 1024 + 1));
  await expect(read()).rejects.toThrow('has more than 64 KiB');
  writeFileSync(path, Buffer.from([0xff, 0xfe]));
  await expect(read()).rejects.toMatchObject({
    message: expect.stringContaining('is not UTF-8') as string,
    hint: expect.stringContaining('--no-template') as string,
  });
});

test('a directory that is a symlink leads nowhere', async () => {
  mkdirSync(join(tree, 'real'));
  write('real/devcontainer.json', '{"image": "x"}');
  symlinkSync('real', join(tree, '.devcontainer'));
  await expect(read()).rejects.toThrow('.devcontainer" is a symlink');
});

test('a configuration in a directory of its own is used when it is the only one, and chosen when it is not', async () => {
  const [api, web] = ['.devcontainer/api/devcontainer.json', '.devcontainer/web/devcontainer.json'];
  mkdirSync(join(tree, '.devcontainer/api/deeper'), { recursive: true });
  write('.devcontainer/Dockerfile', 'FROM x\n');
  write('.devcontainer/api/deeper/devcontainer.json', '{"image": "too deep"}');
  expect(await read()).toBeUndefined();
  write(api, '{"image": "api"}');
  expect((await read())?.template).toMatchObject({ file: api, image: 'api' });
  mkdirSync(join(tree, '.devcontainer/web'));
  write(web, '{"image": "web"}');
  await expect(read()).rejects.toMatchObject({
    code: 'invalid_argument',
    message: `"${tree}" says in several files what its VM is like: "${api}", "${web}"`,
    hint: `Choose one: --template ${api}; or go without: --no-template`,
  });
  expect((await read(web))?.template).toMatchObject({ file: web, image: 'web' });
  // The usual one needs no choosing, but may be passed over.
  write('.devcontainer/devcontainer.json', '{"image": "usual"}');
  expect((await read())?.template.image).toBe('usual');
  expect((await read(api))?.template.image).toBe('api');
});

test.each([
  '.devcontainer/none/devcontainer.json',
  'package.json',
  '.devcontainer/../../x/devcontainer.json',
])('a file that is not there, or none of those, is not read though it was chosen: %s', async (file) => {
  write('package.json', '{"image": "x"}');
  await expect(read(file)).rejects.toMatchObject({
    code: 'not_found',
    hint: 'It has nothing of that kind. Leave out --template',
  });
  write('banger.toml', 'image = "x"\n');
  await expect(read(file)).rejects.toMatchObject({
    message: `"${tree}" has no "${file}"`,
    hint: 'Choose what it has: --template banger.toml',
  });
});

test('a directory of a configuration that is a symlink leads nowhere', async () => {
  mkdirSync(join(tree, 'real'));
  mkdirSync(join(tree, '.devcontainer'));
  write('real/devcontainer.json', '{"image": "x"}');
  symlinkSync('../real', join(tree, '.devcontainer/api'));
  await expect(read()).rejects.toThrow('.devcontainer/api" is a symlink');
});
