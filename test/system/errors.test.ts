import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeDirectory, openBanger } from '../support/banger.ts';
import { debianLayout } from '../support/images.ts';
import { freePort } from '../support/registry-server.ts';
import { mediaTypes, startRegistry, type FakeRegistry } from '../support/registry.ts';
import { withSmallDisk } from '../support/small-disk.ts';

const banger = openBanger();
let registry: FakeRegistry;

beforeAll(async () => {
  registry = await startRegistry();
  await banger.ok(['vm', 'create', '--no-start', '--name', 'web']);
});
afterAll(async () => {
  await banger[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
});

/** What the last lines on stderr say: the error, and what to do about it. */
async function failure(...args: string[]): Promise<{ code: number | null; what: string; hint: string }> {
  const { code, stdout, stderr } = await banger.run(args);
  expect(stdout).toBe('');
  const lines = stderr.trimEnd().split('\n');
  const at = lines.findIndex((line) => line.startsWith('banger: '));
  expect(lines.slice(at), stderr).toHaveLength(2);
  expect(lines[at + 1], stderr).toMatch(/^ {2}\S/);
  await commandsExist(lines[at + 1]!);
  return { code, what: lines[at]!.slice('banger: '.length), hint: lines[at + 1]!.trim() };
}

/** Hints are there to be pasted: every command that one names must be one. */
async function commandsExist(hint: string): Promise<void> {
  for (const [, command] of hint.matchAll(/\bbanger ((?:vm|image|workspace|engine) [a-z]+|[a-z]+)/g))
    expect(await banger.run([...command!.split(' '), '--help']), hint).toMatchObject({ code: 0 });
}

test('an image that the registry does not have', async () => {
  const { code, what, hint } = await failure('vm', 'create', '--image', `${registry.host}/no/such:tag`);
  expect(code).toBe(1);
  expect(what).toContain(`${registry.host}/no/such:tag`);
  expect(hint).not.toBe('');
});

test('a registry that does not answer', async () => {
  const host = `127.0.0.1:${await freePort()}`;
  const { code, what } = await failure('image', 'pull', `${host}/any:tag`);
  expect(code).toBe(1);
  expect(what).toContain(host);
});

test('a manifest that is not what its digest says', async () => {
  const digest = registry.putManifest('lying', 'v1', { schemaVersion: 2, mediaType: mediaTypes.manifest });
  const wrong = `sha256:${'0'.repeat(64)}`;
  registry.manifests.set(`lying@${wrong}`, registry.manifests.get(`lying@${digest}`)!);
  const { code, what } = await failure('image', 'pull', `${registry.host}/lying@${wrong}`);
  expect(code).toBe(1);
  expect(what).toMatch(/digest|sha256/);
  expect(await banger.json('image', 'list')).toHaveLength(1);
});

test('a name that is taken', async () => {
  const { code, what, hint } = await failure('vm', 'create', '--name', 'web');
  expect({ code, what }).toEqual({ code: 1, what: 'There is already a VM named "web"' });
  expect(hint).toContain('banger vm delete web');
});

test('more memory than the host has', async () => {
  const { code, what, hint } = await failure('vm', 'create', '--memory', '9000G');
  expect(code).toBe(1);
  expect(what).toContain('of memory is too much: this host has');
  expect(hint).toContain('--memory');
});

test('no QEMU where the configuration says', async () => {
  banger.configure('[vmm]\naccel = "tcg"\nqemu = "/nonexistent"\n');
  const { code, what, hint } = await failure('vm', 'start', 'web');
  expect(code).toBe(1);
  expect(what).toContain('"/nonexistent"');
  expect(hint).not.toBe('');
  banger.configure('[vm]\nmemory = "256M"\n');
});

test('a VM that is not running: 125 tells the error from an exit code of a program', async () => {
  const { code, what, hint } = await failure('vm', 'exec', 'web', '--', 'true');
  expect({ code, what }).toEqual({ code: 125, what: 'VM "web" is stopped, not running' });
  expect(hint).toContain('banger vm start web');
});

test('a VM that does not exist, as text and as JSON', async () => {
  const { code, what, hint } = await failure('vm', 'stop', 'wbe');
  expect({ code, what }).toEqual({ code: 1, what: expect.stringContaining('"wbe"') as unknown });
  expect(hint).toContain('banger');
  for (const verb of ['show', 'stop', 'delete']) {
    const { stderr, stdout } = await banger.run(['vm', verb, 'wbe', '--json']);
    expect(stdout).toBe('');
    expect(JSON.parse(stderr)).toMatchObject({ error: { code: 'not_found', message: what } });
  }
});

test('one of several VMs that does not exist does not keep the others from it', async () => {
  await banger.ok(['vm', 'create', '--no-start', '--name', 'other']);
  const { code, stdout, stderr } = await banger.run(['vm', 'delete', 'wbe', 'other']);
  expect({ code, stdout }).toEqual({ code: 1, stdout: 'other\n' });
  expect(stderr).toContain('"wbe"');
});

test.each([
  [['vm', 'crate'], 'There is no command "banger vm crate"', 'Did you mean: banger vm create'],
  [['imgae', 'list'], 'There is no command "banger imgae"', 'Did you mean: banger image'],
  [['exec', 'web', '--', 'ls'], 'There is no command "banger exec"', 'Did you mean: banger vm exec'],
  [['vm', 'create', '--cpu', '2'], '"banger vm create" has no option "--cpu"', 'Did you mean: --cpus'],
  [['vm', 'create', '--name', 'Not_A_Name'], '"--name" cannot be "Not_A_Name"', 'a-z, 0-9 and -'],
  [['vm', 'create', '--cpus', 'two'], '"--cpus" cannot be "two"', 'whole number'],
  [['vm', 'stop'], '"banger vm stop" needs the argument "vm"', 'banger vm stop --help'],
])('what is mistyped exits with 2 and says what was meant: %j', async (args, what, meant) => {
  const { code, stdout, stderr } = await banger.run(args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toContain(what);
  expect(stderr).toContain(meant);
});

test('a configuration with an unknown key', async () => {
  banger.configure('[vm]\nmemroy = "1G"\n');
  const { code, what } = await failure('vm', 'create');
  expect(code).toBe(1);
  expect(what).toContain('unknown key "vm.memroy"');
  expect(await banger.ok(['ps', '-q'])).toContain('web');
  banger.configure('[vm]\nmemory = "256M"\n');
});

test('a disk that is full: what did not fit leaves nothing, and VMs are refused before they fill it', (context) =>
  withSmallDisk(context, '16m', async ({ path }) => {
    await using small = openBanger(makeDirectory(path, 'home'));
    const imported = await small.run(['image', 'import', await debianLayout(), '--name', 'debian']);
    expect(imported.code).toBe(1);
    expect(imported.stderr).toMatch(
      /^banger: There is no room for the image: it takes \d+ MiB or more, and \d+ MiB are free at /m,
    );
    await commandsExist(imported.stderr);
    expect(await small.json('image', 'list')).toEqual([]);
    expect(readdirSync(join(small.home, 'state/images/.staging'))).toEqual([]);

    const created = await small.run(['vm', 'create']);
    expect(created.code).toBe(1);
    expect(created.stderr).toMatch(/^banger: The disk is full: .* free at /m);
  }));
