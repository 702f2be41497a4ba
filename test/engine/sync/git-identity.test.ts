import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { tellIdentity } from '../../../src/engine/sync/git-identity.ts';
import { findRepository } from '../../../src/engine/workspace/host-tree/repository.ts';
import { guestConfigText } from '../../../src/engine/workspace/host-tree/git-config.ts';
import { exec, type Exec } from '../../../src/host/exec.ts';
import { parseConfig } from '../../../src/state/config.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { createFakeGuest, type FakeGuest } from '../../support/fake-guest.ts';
import { fakeOperation } from '../../support/fakes.ts';
import { makeTempDirectory } from '../../support/git-repo.ts';
import { createTestVm } from '../../support/vm-world.ts';

let engine: FakeEngine;
let directory: ReturnType<typeof makeTempDirectory>;
let fake: FakeGuest;
const here = (...names: string[]): string => join(directory.path, ...names);

beforeEach(() => {
  engine = fakeEngine();
  directory = makeTempDirectory();
  for (const name of ['host/work', 'host/home', 'guest/root/repo', 'guest/etc'])
    mkdirSync(here(name), { recursive: true });
  fake = createFakeGuest();
});
afterEach(async () => {
  await engine.close();
  directory.remove();
});

/** Git of the host's user, and of the guest's root. */
const environment = (home: string) => ({
  PATH: process.env['PATH'],
  HOME: home,
  GIT_CONFIG_NOSYSTEM: '1',
  LC_ALL: 'C',
});
const hostExec: Exec = (argv, options) =>
  exec(argv, { ...options, env: { ...options?.env, ...environment(here('host/home')) } });
const gitIn = (path: string, home: string, ...args: string[]): string => {
  const { stdout, stderr } = spawnSync('git', args, { cwd: here(path), env: environment(here(home)) });
  return `${stdout.toString()}${stderr.toString()}`.trim();
};
const onHost = (...args: string[]) => gitIn('host/work', 'host/home', ...args);
const inGuest = (...args: string[]) => gitIn('guest/root/repo', 'guest/root', ...args);
const committer = (): string => {
  inGuest('init', '-q');
  inGuest('commit', '--allow-empty', '-qm', 'x');
  return inGuest('log', '-1', '--format=%an <%ae>');
};

/** Tells the guest, whose root is a directory here. */
async function tell(config = ''): Promise<void> {
  const runToolbox: FakeGuest['guest']['runToolbox'] = ([sh, c, script, name], options) =>
    fake.guest.runToolbox([sh!, c!, script!, name!, here('guest')], options);
  const context = {
    ...engine.context,
    exec: hostExec,
    config: () => parseConfig(config, 'c'),
    guest: async () => ({ ...fake.guest, runToolbox }),
  };
  const vm = engine.context.handles.get(vmId) ? { id: vmId } : await createTestVm(engine);
  vmId = vm.id;
  await tellIdentity(context, vm as Parameters<typeof tellIdentity>[1], fakeOperation().operation);
}
let vmId = '';

function writeHostConfig(more = ''): void {
  writeFileSync(
    here('host/home/.gitconfig'),
    `[user]\n\tname = Ada Tester\n\temail = ada@example.com\n[credential]\n\thelper = store\n${more}`,
  );
}

test('a commit in any repository of the guest is by who the user is here, and nothing else comes along', async () => {
  writeHostConfig();
  await tell();
  expect(committer()).toBe('Ada Tester <ada@example.com>');
  expect(inGuest('config', '--global', '--includes', '--list')).toBe(
    'include.path=banger\nuser.name=Ada Tester\nuser.email=ada@example.com',
  );
});

test('one who is known here under another name now is known by that, and is told once', async () => {
  writeHostConfig();
  await tell();
  await tell();
  expect(fake.commands).toHaveLength(1);
  onHost('config', '--global', 'user.name', 'Grace');
  await tell();
  expect(committer()).toBe('Grace <ada@example.com>');
  expect(readFileSync(here('guest/root/.config/git/config'), 'utf8')).toBe('[include]\n\tpath = banger\n');
});

test.each([
  [
    'in its home',
    () => writeFileSync(here('guest/root/.gitconfig'), '[user]\n\tname = Bot\n\temail = bot@x\n'),
  ],
  [
    'in its other configuration',
    () => {
      mkdirSync(here('guest/root/.config/git'), { recursive: true });
      writeFileSync(here('guest/root/.config/git/config'), '[user]\n\tname = Bot\n\temail = bot@x\n');
    },
  ],
])('an identity that the guest has %s stays', async (_, make) => {
  writeHostConfig();
  make();
  await tell();
  expect(committer()).toBe('Bot <bot@x>');
});

test('an identity that the image gives to all users, and one that somebody sets later, stay', async () => {
  writeHostConfig();
  await tell();
  inGuest('config', '--global', 'user.name', 'Later');
  inGuest('config', '--global', 'user.email', 'later@x');
  onHost('config', '--global', 'user.name', 'Grace');
  await tell();
  expect(committer()).toBe('Later <later@x>');

  writeFileSync(here('guest/etc/gitconfig'), '[user]\n\tname = Image\n');
  onHost('config', '--global', 'user.name', 'Hopper');
  await tell();
  expect(inGuest('config', '--global', '--includes', '--get-all', 'user.name')).toBe('Later');
});

test('without an identity here, and where the configuration says so, the guest is told nothing', async () => {
  await tell();
  writeHostConfig();
  await tell('[git]\nidentity = false\n');
  expect(fake.commands).toEqual([]);
});

test('what git says of the user in one tree alone travels with that tree', async () => {
  writeHostConfig(`[includeIf "gitdir:${here('host/work')}/"]\n\tpath = work\n`);
  writeFileSync(here('host/home/work'), '[user]\n\temail = ada@work.example\n');
  onHost('init', '-q');
  const signal = new AbortController().signal;
  const text = async () => guestConfigText(await findRepository(hostExec, here('host/work'), signal));
  expect(await text()).toContain('[user]\n\temail = "ada@work.example"\n');
  expect(await text()).not.toContain('Ada');
  onHost('config', 'user.name', 'Only Here');
  expect(await text()).toContain('[user]\n\tname = "Only Here"\n\temail = "ada@work.example"\n');
});
