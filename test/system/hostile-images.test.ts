import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { openBanger } from '../support/banger.ts';
import { busyboxTar } from '../support/images.ts';

const banger = openBanger();
afterAll(() => banger[Symbol.asyncDispose]());

/** Adds a layer of links to the busybox image: they point at files of the image, and out of it if it were the host. */
async function imageWith(name: string, links: Readonly<Record<string, string>>): Promise<void> {
  const tar = join(banger.home, `${name}.tar`);
  cpSync(await busyboxTar(), tar);
  for (const [path, target] of Object.entries(links)) {
    const root = join(banger.home, `${name}-root`);
    execFileSync('sh', [
      '-c',
      'mkdir -p "$1/$(dirname "$2")" && ln -sfn "$3" "$1/$2"',
      'sh',
      root,
      path,
      target,
    ]);
    execFileSync('tar', ['-C', root, '--owner=0', '--group=0', '-rf', tar, `./${path}`]);
  }
  await banger.ok(['image', 'import', tar, '--name', name]);
}

test('directories of the system that an image made links are replaced, not followed', async () => {
  await imageWith('links', { proc: 'etc', sys: '/etc', dev: '../../../../dev', run: '/root' });
  await banger.ok(['vm', 'create', '--name', 'links', '--image', 'links']);
  expect(
    await banger.guest(
      'links',
      'for d in proc sys dev run; do test -L /$d && echo link || echo directory; done',
    ),
  ).toBe('directory\ndirectory\ndirectory\ndirectory');
  expect(
    await banger.guest('links', 'test -c /dev/null && test -r /proc/1/comm && ls /root /etc'),
  ).not.toMatch(/banger/);
  await banger.ok(['vm', 'delete', 'links']);
});

test('files of the system that an image made links end inside it', async () => {
  const before = readFileSync('/etc/hosts', 'utf8');
  await imageWith('files', {
    'etc/resolv.conf': '../../../../../../../../tmp/banger-escaped',
    'etc/hosts': '/etc/passwd',
    'etc/hostname': '/etc/passwd',
    'sbin/init': '/bin/nothing-there',
  });
  await banger.ok(['vm', 'create', '--name', 'files', '--image', 'files']);
  // What the links lead to is as it was in the image, and nothing of it reached this host.
  expect(await banger.guest('files', 'cat /etc/passwd')).toBe(
    'root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000::/tmp:/bin/sh',
  );
  expect(await banger.guest('files', 'cat /etc/resolv.conf')).toContain('nameserver');
  expect(await banger.guest('files', 'cat /proc/1/comm')).toBe('banger-init');
  expect(existsSync('/tmp/banger-escaped')).toBe(false);
  expect(readFileSync('/etc/hosts', 'utf8')).toBe(before);
  await banger.ok(['vm', 'delete', 'files']);
});
