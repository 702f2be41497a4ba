import { afterAll, beforeAll, expect, test } from 'vitest';
import { openBanger, until } from '../support/banger.ts';
import { busyboxTar, debianLayout, scratchTar } from '../support/images.ts';
import { startRegistryServer, type RegistryServer } from '../support/registry-server.ts';

const banger = openBanger();
let registry: RegistryServer;
let debian: string;

beforeAll(async () => {
  registry = await startRegistryServer();
  debian = `${registry.host}/debian:test`;
  await registry.push(await debianLayout(), 'debian:test');
});
afterAll(async () => {
  await banger[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
});

test('vm create pulls an image that is missing, and systemd boots it', async () => {
  expect(await banger.json('image', 'list')).toEqual([]);
  const { stdout, stderr } = await banger.run([
    'vm',
    'create',
    '--name',
    'deb',
    '--memory',
    '512M',
    '--image',
    debian,
  ]);
  expect(stdout, stderr).toBe('deb\n');
  expect(stderr).toContain('Downloading layers');

  expect(await banger.guest('deb', 'cat /proc/1/comm; . /etc/os-release; echo $ID')).toBe('systemd\ndebian');
  // SSH is there before systemd has begun, which can be waited for only once it listens.
  const state = async (...options: string[]): Promise<string> =>
    (
      await banger.run(['vm', 'exec', 'deb', '--', 'systemctl', 'is-system-running', ...options])
    ).stdout.trim();
  await until('systemd has ended its boot', async () => /^(running|degraded)$/.test(await state()), 150_000);
  const system = await state('--wait');
  expect(system).toMatch(/^(running|degraded)$/);
  const failed = await banger.guest('deb', 'systemctl list-units --failed --no-legend --plain');
  if (failed !== '') process.stderr.write(`systemd in the guest is ${system}:\n${failed}\n`);
});

test('a pulled image is listed with its digest and its user, and is not fetched again', async () => {
  expect(await banger.json('image', 'show', debian)).toMatchObject({
    source: 'pull',
    digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
    hasShell: true,
    usedBy: ['deb'],
  });
  const { code, stderr } = await banger.run([
    'vm',
    'create',
    '--no-start',
    '--name',
    'two',
    '--image',
    debian,
  ]);
  expect(code, stderr).toBe(0);
  expect(stderr).not.toContain('Downloading');
});

test('an image that VMs use is not deleted', async () => {
  const { code, stderr } = await banger.run(['image', 'delete', debian]);
  expect(code).toBe(1);
  expect(stderr).toMatch(/^banger: .*is used by .*deb/);
});

test('a guest with systemd powers off cleanly', async () => {
  expect(await banger.json('vm', 'stop', 'deb')).toMatchObject({ state: 'stopped', flushed: true });
  const console = await banger.ok(['vm', 'logs', 'deb']);
  expect(console).toMatch(/Power down/i);
  await banger.ok(['vm', 'delete', 'deb', 'two']);
});

test('an image without an init boots, and reaps its orphans', async () => {
  await banger.ok(['image', 'import', await busyboxTar(), '--name', 'tiny']);
  await banger.ok(['vm', 'create', '--name', 'tiny', '--image', 'tiny']);
  expect(await banger.guest('tiny', '. /etc/os-release; echo $ID')).toBe('tiny');
  // Each inner shell leaves a child behind that ends later: PID 1 inherits it.
  await banger.guest('tiny', 'for i in 1 2 3 4 5; do sh -c "sleep 0.2 &"; done; sleep 1');
  expect(await banger.guest('tiny', 'grep -l "^State:.Z" /proc/[0-9]*/status || true')).toBe('');
  expect(await banger.json('vm', 'stop', 'tiny')).toMatchObject({ state: 'stopped', flushed: true });
  await banger.ok(['vm', 'delete', 'tiny']);
});

test('an image of one static program runs it, and a shell in it is an error that helps', async () => {
  const image = await banger.json('image', 'import', await scratchTar(), '--name', 'scratch');
  expect(image).toMatchObject({ hasShell: false, os: '' });
  await banger.ok(['vm', 'create', '--name', 'scratch', '--image', 'scratch']);
  expect(await banger.ok(['vm', 'exec', 'scratch', '--', '/busybox', 'echo', 'hello'])).toBe('hello');
  const shell = await banger.run(['vm', 'ssh', 'scratch']);
  expect(shell.code).toBe(127);
  expect(shell.stderr).toContain('this image has no shell');
  expect(shell.stderr).toContain('banger vm exec');
});
