import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openBanger } from '../support/banger.ts';
import { busyboxTar, program } from '../support/images.ts';

const banger = openBanger();
const work = mkdtempSync(join(tmpdir(), 'bt-config-'));
/** Everything that a shell would act on. */
const nasty = `a 'b' "c" $(touch /hacked) \`id\` \\ ; | & * ~\nsecond line`;
/** The directory of the image, which its layers do not have, below a symlink that they do have. */
const here = `/way/$(touch /hacked) 'a'/here "b"`;

beforeAll(async () => {
  const layout = join(work, 'layout');
  const base = `${layout}:base`;
  await program('umoci', ['init', '--layout', layout]);
  await program('umoci', ['new', '--image', base]);
  await program('umoci', ['raw', 'add-layer', '--image', base, await busyboxTar()]);
  const link = join(work, 'link.tar');
  symlinkSync('/tmp', join(work, 'way'));
  await program('tar', ['-C', work, '-cf', link, 'way']);
  await program('umoci', ['raw', 'add-layer', '--image', base, link]);
  const config = async (name: string, ...options: string[]): Promise<void> => {
    const own = join(work, name);
    await program('umoci', ['config', '--image', base, '--tag', name, ...options]);
    await program('skopeo', ['copy', '-q', `oci:${layout}:${name}`, `oci:${own}:x`]);
    await banger.ok(['image', 'import', own, '--name', name]);
  };
  await config(
    'app',
    ...['--config.user', 'ada', '--config.workingdir', `${here}/x/..`, '--config.env', `NASTY=${nasty}`],
    ...['--config.entrypoint', '/bin/printf', '--config.entrypoint', '%s|%s\n'],
    ...['--config.cmd', nasty, '--config.cmd', 'two'],
  );
  // A file is where its directory would be: it boots all the same.
  await config('stranger', '--config.user', nasty, '--config.workingdir', '/bin/busybox/x');
  await config('minus-one', '--config.user', '4294967295');
});
afterAll(async () => {
  rmSync(work, { recursive: true, force: true });
  await banger[Symbol.asyncDispose]();
});

test('exec follows user, directory (made if it is missing) and variables of the image, and options override them', async () => {
  await banger.ok(['vm', 'create', '--name', 'app', '--image', 'app']);
  expect(await banger.guest('app', 'id -u; id -g; pwd -P')).toBe(
    `1000\n1000\n${here.replace('/way', '/tmp')}`,
  );
  expect(await banger.guest('app', 'printf %s "$NASTY"')).toBe(nasty);
  expect(
    await banger.ok(['vm', 'exec', '-u', 'root', '-w', '/etc', 'app', '--', 'sh', '-c', 'id -u; pwd']),
  ).toBe('0\n/etc');
  expect(await banger.ok(['vm', 'exec', '-u', '7:8', 'app', '--', 'sh', '-c', 'id -u; id -g'])).toBe('7\n8');
  expect(await banger.guest('app', 'stat -c "%u:%g %a" .. .')).toBe('0:0 755\n0:0 755');
  const file = await banger.run(['vm', 'exec', '-w', '/bin/busybox', 'app', '--', 'pwd']);
  expect([file.code, file.stderr]).toEqual([
    126,
    'banger: working directory "/bin/busybox" is not a directory in the guest\n',
  ]);
  const login = await banger.run(['vm', 'ssh', 'app'], { input: 'id -u\n' });
  expect(login.stdout.trim()).toBe('0');
  expect((await banger.run(['vm', 'exec', 'app', '--', 'test', '-e', '/hacked'])).code).toBe(1);
});

test.each([
  ['4294967295', 'is not the number of a user or group'],
  ['2147483648', 'is not the number of a user or group'],
  ['99999999999999999999', 'is not the number of a user or group'],
  ['0:4294967295', 'is not the number of a user or group'],
  ['nobody-here', 'no user "nobody-here" in the image'],
  ['ada:no-group', 'no group "no-group" in the image'],
])('the user %s is refused', async (user, why) => {
  const { code, stderr, stdout } = await banger.run(['vm', 'exec', '-u', user, 'app', '--', 'id', '-u']);
  expect(stderr).toContain(why);
  expect([code, stdout]).toEqual([126, '']);
});

test('run --entrypoint runs what the image is made to run, word for word', async () => {
  const own = await banger.run(['vm', 'run', '--image', 'app', '--entrypoint']);
  expect(own.stdout, own.stderr).toBe(`${nasty}|two\n`);
  const given = await banger.run(['vm', 'run', '--image', 'app', '--entrypoint', '--', 'x y', '$HOME']);
  expect(given.stdout, given.stderr).toBe('x y|$HOME\n');
  expect((await banger.json<{ name: string }[]>('vm', 'list')).map((vm) => vm.name)).toEqual(['app']);
});

test.each([
  ['stranger', 'no user'],
  ['minus-one', 'is not the number of a user or group'],
])('an image whose user is %s runs nothing as somebody else', async (image, why) => {
  const ran = await banger.run(['vm', 'run', '--image', image, '--', 'id', '-u']);
  expect(ran.stderr).toContain(why);
  expect([ran.code, ran.stdout]).toEqual([126, '']);
});
