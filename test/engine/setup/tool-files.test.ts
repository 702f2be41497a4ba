import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest';
import { admitTools } from '../../../src/engine/setup/tool-consent.ts';
import { findToolFiles } from '../../../src/engine/setup/tool-files.ts';
import { openDatabase } from '../../../src/state/database.ts';
import { makeTempDirectory } from '../../support/git-repo.ts';

let tree: string;
let remove: () => void;
beforeEach(() => {
  ({ path: tree, remove } = makeTempDirectory());
  write('.tool-versions', 'node 22 20.1.0 # both\n\npython 3.12\n');
});
afterEach(() => remove());

function write(name: string, text: string): void {
  const path = join(tree, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

const names = async (): Promise<string[]> => (await findToolFiles(tree))!.demanding.map(({ name }) => name);

test('files that only name tools ask for nothing, and mise is given the tools in them and nothing else', async () => {
  write(
    'mise.toml',
    '# mine\nmin_version = "2024.1"\n[tools]\nnode = ["20", "lts/iron"]\ngo = { version = "prefix:1.2" }\n',
  );
  write('mise/notes.md', 'no configuration');
  write('mise.lock', '[[tools.node]]\nurl = "https://evil.example"\n');
  const files = (await findToolFiles(tree))!;
  expect(files).toMatchObject({ first: 'mise.toml', demanding: [] });
  expect(files.plain).toEqual([
    { name: '.tool-versions', text: 'node 22 20.1.0\npython 3.12\n' },
    {
      name: 'mise.toml',
      text: '[tools]\nnode = [ "20", "lts/iron" ]\n\n[tools.go]\nversion = "prefix:1.2"\n',
    },
  ]);
  // It decides where tools come from.
  write('mise.lock', '[[tools.node]]\nurl = "https://other.example"\n');
  expect((await findToolFiles(tree))!.sha256).not.toBe(files.sha256);
});

const evil = '[env]\nX = "{{ exec(command=\'evil\') }}"\n';
test.each([
  '.config/mise/mise.toml',
  '.config/mise/mise.local.toml',
  '.miserc.local.toml',
  'mise.prod.toml',
  '.mise.prod.local.toml',
  '.mise/config.prod.toml',
  '.config/miserc.toml',
  '.rtx.toml',
  'mise/conf.d/one.toml',
  '.config/mise/config.of-a-later-version.toml',
])('beside tools that ask for nothing, %s takes consent and is shown', async (name) => {
  write(name, evil);
  expect((await findToolFiles(tree))!.demanding).toEqual([{ name, text: evil }]);
});

test('what cannot be shown, or leads elsewhere, is told as what it is, and cannot be agreed to', async () => {
  write('harmless/other', evil);
  symlinkSync('harmless/other', join(tree, 'mise.toml'));
  write('.mise.toml', `#${'x'.repeat(1_100_000)}\n${evil}`);
  mkdirSync(join(tree, 'elsewhere'));
  write('elsewhere/config.toml', evil);
  symlinkSync('elsewhere', join(tree, '.mise'));
  symlinkSync('/etc', join(tree, '.config'));
  const files = (await findToolFiles(tree))!;
  expect(files.demanding).toEqual([
    { name: '.config', text: '(a symlink to "/etc")', isUnseen: true },
    { name: '.mise', text: '(a symlink to "elsewhere")', isUnseen: true },
    { name: '.mise.toml', text: '(a file of 1100041 bytes, too large to be shown)', isUnseen: true },
    { name: 'mise.toml', text: '(a symlink to "harmless/other")', isUnseen: true },
  ]);
  // Nobody can agree to what nobody sees.
  const db = openDatabase(':memory:');
  onTestFinished(() => void db.close());
  expect(() => admitTools(db, { hostPath: tree, files, agreed: files.sha256 })).toThrow(
    `".config" of "${tree}", which mise would read, cannot be shown, and so not be agreed to (a symlink to "/etc")`,
  );
});

test.each([
  ['mise.toml', '[tools]\n"npm:evil" = "1"\n'],
  ['mise.toml', '[tools]\n"asdf:https://evil.example/plugin" = "1"\n'],
  ['mise.toml', '[tools]\nnode = "path:./evil"\n'],
  ['mise.toml', '[tools]\nnode = { version = "1", install_env = { A = "b" } }\n'],
  ['.tool-versions', 'vfox:evil/plugin 1\n'],
  ['.tool-versions', 'node ref:evil\n'],
  ['.tool-versions', 'node ../../evil\n'],
])('a tool that comes from elsewhere than the register of mise takes consent: %s, %s', async (name, text) => {
  write(name, text);
  expect(await names()).toEqual([name]);
});
