import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  readSshConfig,
  withInclude,
  withoutInclude,
  writeSshConfig,
} from '../../src/commands/ssh-include.ts';

let home: string;
let file: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'banger-ssh-'));
  file = join(home, 'ssh/config');
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

async function install(path = file, include = '/state/ssh/config'): Promise<boolean> {
  const old = await readSshConfig(path);
  const { text, isChanged } = withInclude(old, include);
  if (isChanged) await writeSshConfig(path, { old, text });
  return isChanged;
}

async function uninstall(path = file): Promise<boolean> {
  const old = (await readSshConfig(path))!;
  const { text, isChanged } = withoutInclude(old);
  if (isChanged) await writeSshConfig(path, { old, text });
  return isChanged;
}

test('a file that is missing is made for its owner alone, and goes again', async () => {
  expect(await install()).toBe(true);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(statSync(join(home, 'ssh')).mode & 0o777).toBe(0o700);
  expect(readFileSync(file, 'utf8')).toContain('\nInclude "/state/ssh/config"\n');
  expect(await uninstall()).toBe(true);
  expect(readdirSync(join(home, 'ssh'))).toEqual([]);
});

test.each([
  ['text without a line break at its end', Buffer.from('Host a\n  User b')],
  ['nothing', Buffer.alloc(0)],
  [
    'a byte order mark, DOS line ends and bytes that are not UTF-8',
    Buffer.from([0xef, 0xbb, 0xbf, 0x41, 13, 10, 0xff, 0, 10]),
  ],
])('%s comes back to the byte, and is below our lines meanwhile', async (_, bytes) => {
  mkdirSync(join(home, 'ssh'));
  writeFileSync(file, bytes, { mode: 0o644 });
  expect(await install()).toBe(true);
  const installed = readFileSync(file);
  expect(installed.subarray(installed.length - bytes.length)).toEqual(bytes);
  expect(await install()).toBe(false);
  expect(readFileSync(file)).toEqual(installed);
  expect(statSync(file).mode & 0o777).toBe(0o644);
  expect(await uninstall()).toBe(true);
  expect(readFileSync(file)).toEqual(bytes);
  expect(await uninstall()).toBe(false);
});

test('lines that were written into the file since stay where they are, also in one that banger made', async () => {
  await install();
  writeFileSync(file, `# before\n${readFileSync(file, 'utf8')}Host after\n`);
  await install(file, '/elsewhere/ü*/config');
  expect(readFileSync(file, 'utf8').match(/Include .*/g)).toEqual(['Include "/elsewhere/ü\\*/config"']);
  await uninstall();
  expect(readFileSync(file, 'utf8')).toBe('# before\nHost after\n');
});

test('a symlink stays one, and the file that it leads to is changed', async () => {
  const real = join(home, 'dotfiles/ssh-config');
  mkdirSync(join(home, 'dotfiles'));
  mkdirSync(join(home, 'ssh'));
  writeFileSync(real, 'Host a\n', { mode: 0o640 });
  symlinkSync('../dotfiles/ssh-config', file);
  await install();
  expect(lstatSync(file).isSymbolicLink()).toBe(true);
  expect(readFileSync(real, 'utf8')).toMatch(/^# >>> banger[^]*Host a\n$/);
  expect(statSync(real).mode & 0o777).toBe(0o640);
  await uninstall();
  expect(readFileSync(real, 'utf8')).toBe('Host a\n');
  expect(readdirSync(join(home, 'dotfiles'))).toEqual(['ssh-config']);
  rmSync(real);
  await expect(writeSshConfig(file, { old: undefined, text: 'x' })).rejects.toThrow('leads to nothing');
});

test('what somebody else has written meanwhile is not lost', async () => {
  mkdirSync(join(home, 'ssh'));
  writeFileSync(file, 'Host new\n');
  await expect(writeSshConfig(file, { old: 'Host old\n', text: 'x' })).rejects.toMatchObject({
    code: 'busy',
  });
  expect(readFileSync(file, 'utf8')).toBe('Host new\n');
});

test('lines of ours that were changed are not taken for ours', async () => {
  await install();
  writeFileSync(file, readFileSync(file, 'utf8').replace('# <<< banger\n', 'Host mine\n'));
  await expect(uninstall()).rejects.toThrow('begin in line 1 have been changed');
  expect(readFileSync(file, 'utf8')).toContain('Host mine');
});

test('a file that cannot be written is named, with why', async () => {
  writeFileSync(join(home, 'ssh'), 'a file');
  await expect(writeSshConfig(file, { old: undefined, text: 'x' })).rejects.toMatchObject({
    code: 'invalid_argument',
    message: `"${file}" cannot be written: there is a file in place of its directory`,
  });
  expect(readFileSync(join(home, 'ssh'), 'utf8')).toBe('a file');
});
