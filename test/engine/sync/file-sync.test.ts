import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startVm } from '../../../src/engine/lifecycle/start-vm.ts';
import { stopVm } from '../../../src/engine/lifecycle/stop-vm.ts';
import { setVm } from '../../../src/engine/lifecycle/set-vm.ts';
import { placeFiles } from '../../../src/engine/sync/place-files.ts';
import { lookAtFile, type ReadableFile } from '../../../src/engine/sync/readable-files.ts';
import { viewVm } from '../../../src/engine/vm-view.ts';
import { parseConfig } from '../../../src/state/config.ts';
import { getVm } from '../../../src/state/vms.ts';
import { fakeEngine } from '../../support/fake-engine.ts';
import { createFakeGuest } from '../../support/fake-guest.ts';
import { fakeOperation } from '../../support/fakes.ts';
import { createTestVm, vmWorld } from '../../support/vm-world.ts';

const hasBusybox = spawnSync('busybox').status === 0;

let root: string;
let notes: Set<string>;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'banger-sync-'));
  notes = new Set();
  for (const name of ['home', 'guest/root', 'guest/etc']) mkdirSync(join(root, name), { recursive: true });
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const home = (...names: string[]): string => join(root, 'home', ...names);
const guestFile = (path: string): string => join(root, 'guest', path);
const modeOf = (path: string): number => statSync(path).mode & 0o7777;
const write = (name: string, content: string, mode = 0o644): void => {
  mkdirSync(join(home(name), '..'), { recursive: true });
  writeFileSync(home(name), content);
  chmodSync(home(name), mode);
};
const look = (host: string, guest: string, optional = false) =>
  lookAtFile({ host, guest, optional }, { home: home(), budget: { bytes: 0, files: 0 }, notes });

async function send(pairs: readonly (readonly [host: string, guest: string])[], toolbox?: readonly string[]) {
  const files: ReadableFile[] = [];
  for (const [host, guest] of pairs) files.push((await look(host, guest))!);
  const { guest } = createFakeGuest({ toolbox });
  const signal = new AbortController().signal;
  await placeFiles(guest, files, { signal, vmName: 'web', root: join(root, 'guest') });
}

test.each([['this host', undefined] as const, ['busybox', ['busybox']] as const])(
  'with the programs of %s, files and directories arrive with their modes, and again after a change',
  async (name, toolbox) => {
    if (name === 'busybox' && !hasBusybox) throw new Error('This test needs busybox, as guests have it');
    write('.npmrc', 'token=1\n', 0o600);
    write('.config/app/run', '#!/bin/sh\n', 0o750);
    write('.config/app/deep/x y', 'deep\n');
    write('.hidden', 'h');
    symlinkSync('deep/x y', home('.config/app/link'));
    chmodSync(home('.config/app'), 0o700);
    chmodSync(guestFile('root'), 0o750);
    const pairs = [
      ['~/.npmrc', '/root/.npmrc'],
      ['~/.config/app', '/root/.config/app'],
      [home('.hidden'), '/etc/new/place/hidden'],
    ] as const;
    await send(pairs, toolbox);
    expect(readFileSync(guestFile('root/.npmrc'), 'utf8')).toBe('token=1\n');
    expect(modeOf(guestFile('root/.npmrc'))).toBe(0o600);
    expect(modeOf(guestFile('root/.config/app'))).toBe(0o700);
    expect(modeOf(guestFile('root/.config/app/run'))).toBe(0o750);
    expect(readFileSync(guestFile('root/.config/app/link'), 'utf8')).toBe('deep\n');
    expect(readlinkSync(guestFile('root/.config/app/link'))).toBe('deep/x y');
    // Directories that were made have the mode of the one that they are in.
    expect(modeOf(guestFile('root/.config'))).toBe(0o750);
    expect(readFileSync(guestFile('etc/new/place/hidden'), 'utf8')).toBe('h');

    writeFileSync(guestFile('root/.config/app/own'), 'the guest’s');
    chmodSync(guestFile('root/.config/app'), 0o755);
    rmSync(guestFile('root/.npmrc'));
    symlinkSync('/etc/passwd', guestFile('root/.npmrc'));
    write('.npmrc', 'token=2\n', 0o600);
    write('.config/app/deep/x y', 'deeper\n');
    await send(pairs, toolbox);
    expect(readFileSync(guestFile('root/.npmrc'), 'utf8')).toBe('token=2\n');
    expect(readFileSync(guestFile('root/.config/app/link'), 'utf8')).toBe('deeper\n');
    expect(readFileSync(guestFile('root/.config/app/own'), 'utf8')).toBe('the guest’s');
    expect(modeOf(guestFile('root/.config/app'))).toBe(0o755);
    expect(readdirSync(guestFile(''))).toEqual(['etc', 'root']);
  },
);

test('a file whose place is a directory is refused, and leaves nothing beside it', async () => {
  write('file', 'x');
  await expect(send([['~/file', '/etc']])).rejects.toThrow(/etc is a directory there$/);
  expect(readdirSync(guestFile(''))).toEqual(['etc', 'root']);
  expect(readdirSync(guestFile('etc'))).toEqual([]);
});

test('symlinks out of a directory stay behind by name; the path itself may be one', async () => {
  write('secret', 's');
  write('dotfiles/a', 'a');
  for (const [name, target] of [
    ['up', '../secret'],
    ['absolute', home('secret')],
    ['absolute-within', home('dotfiles/a')],
    ['within', 'a'],
    ['twice', 'up'],
  ] as const)
    symlinkSync(target, home('dotfiles', name));
  symlinkSync('dotfiles', home('chosen'));
  await send([['~/chosen', '/root/d']]);
  expect(readdirSync(guestFile('root/d'))).toEqual(['a', 'within']);
  expect([...notes].toSorted()).toEqual(
    ['absolute', 'absolute-within', 'twice', 'up'].map(
      (name) => `"~/chosen/${name}" is a symlink that leads out of "~/chosen" and stays behind`,
    ),
  );
});

test('what is missing, no file, too large or too much is refused by name', async () => {
  await expect(look('~/none', '/root/none')).rejects.toMatchObject({
    code: 'not_found',
    message: 'There is no "~/none" on this host to be sent to the VM',
  });
  expect(await look('~/none', '/root/none', true)).toBeUndefined();
  await expect(look('/dev/null', '/root/null')).rejects.toThrow('neither a file nor a directory');
  write('big', '');
  spawnSync('truncate', ['-s', '65M', home('big')]);
  await expect(look('~/big', '/root/big')).rejects.toThrow(
    '"~/big" and what else is sent to the VM at its start is more than 64 MiB',
  );
  rmSync(home('big'));
  spawnSync('sh', ['-c', 'mkdir d && cd d && seq 10001 | xargs touch', 'sh'], { cwd: home() });
  await expect(look('~/d', '/root/d')).rejects.toThrow('more than 10000 files');
});

test('what cannot be sent keeps a VM from being made, and one that exists only from having it', async () => {
  const engine = fakeEngine();
  try {
    const before = vmWorld(engine);
    const wanted = { fileSync: [{ host: home('.npmrc'), guest: '/root/.npmrc' }] };
    await expect(createTestVm(engine, wanted)).rejects.toMatchObject({ code: 'not_found' });
    expect(vmWorld(engine)).toEqual(before);
    // Nor is an image looked for, which may be a long pull.
    await expect(createTestVm(engine, { ...wanted, image: 'registry.invalid/none' })).rejects.toMatchObject({
      code: 'not_found',
      message: `There is no "${home('.npmrc')}" on this host to be sent to the VM`,
    });

    write('.npmrc', 'token\n', 0o600);
    const { id } = await createTestVm(engine, wanted);
    const sent = () => engine.toolboxRuns.filter((argv) => argv.includes('/root/.npmrc')).length;
    expect(sent()).toBe(1);
    expect(viewVm(engine.context, getVm(engine.context.db, id)).fileSync).toEqual([
      { hostPath: home('.npmrc'), guestPath: '/root/.npmrc', source: 'vm' },
    ]);
    const stop = () => stopVm(engine.context, { id, timeoutMs: 50 }, fakeOperation().operation);
    await stop();
    await startVm(engine.context, id, fakeOperation().operation);
    expect(sent()).toBe(2);

    await stop();
    rmSync(home('.npmrc'));
    const told: string[] = [];
    const operation = { ...fakeOperation().operation, note: (sentence: string) => void told.push(sentence) };
    expect((await startVm(engine.context, id, operation)).state).toBe('running');
    expect(told).toEqual([
      `Warning: Started without some files of this host: There is no "${home('.npmrc')}" on this host to be sent to the VM`,
    ]);
    expect(sent()).toBe(2);
  } finally {
    await engine.close();
  }
});

test('the configuration names files for all VMs; a VM may do without, add to them, and change its own', async () => {
  const engine = fakeEngine();
  write('.npmrc', 'token\n');
  write('other', 'other\n');
  const config = parseConfig(
    `[vm]\nimage = "test"\nmemory = "128M"\n[[file_sync]]\nhost = "${home('.npmrc')}"\nguest = "~/.npmrc"\n`,
    'c',
  );
  const context = { ...engine.context, config: () => config };
  try {
    const show = (id: string) =>
      viewVm(context, getVm(context.db, id)).fileSync.map(({ hostPath, source }) => [hostPath, source]);
    const web = await createTestVm({ ...engine, context });
    expect(show(web.id)).toEqual([[home('.npmrc'), 'config']]);
    expect(engine.toolboxRuns.some((argv) => argv.includes('/root/.npmrc'))).toBe(true);
    const bare = await createTestVm({ ...engine, context }, { name: 'bare', takesConfigFiles: false });
    expect(show(bare.id)).toEqual([]);

    const set = (params: object) =>
      setVm(
        context,
        { id: web.id, params: { removeLabels: [], publish: [], unpublish: [], ...params } },
        fakeOperation().operation,
      );
    const own = { host: home('other'), guest: '/root/.npmrc' };
    expect(await set({ fileSync: [own] })).toMatchObject({ applied: [], atNextStart: ['fileSync'] });
    expect(show(web.id)).toEqual([[home('other'), 'vm']]);
    await expect(set({ fileSync: [{ ...own, host: home('none') }] })).rejects.toMatchObject({
      code: 'not_found',
    });
    await expect(set({ removeFileSync: ['/root/none'] })).rejects.toMatchObject({ code: 'not_found' });
    await set({ removeFileSync: ['/root/.npmrc'] });
    expect(show(web.id)).toEqual([[home('.npmrc'), 'config']]);
  } finally {
    await engine.close();
  }
});

test('no copy of what is sent is left on this host', async () => {
  const engine = fakeEngine();
  write('token', 'a-secret-of-the-user');
  try {
    const { id } = await createTestVm(engine, { fileSync: [{ host: home('token'), guest: '/root/token' }] });
    const { layout, db } = engine.context;
    const found = spawnSync('grep', [
      '-rlaF',
      'a-secret-of-the-user',
      layout.stateDirectory,
      layout.cacheDirectory,
    ]);
    expect(found.stdout.toString()).toBe('');
    expect(existsSync(layout.stateDirectory)).toBe(true);
    expect(JSON.stringify(getVm(db, id))).not.toContain('a-secret');
    expect(engine.log.join('\n')).not.toContain('a-secret');
  } finally {
    await engine.close();
  }
});
