import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { collect, openBanger, until } from '../support/banger.ts';

const banger = openBanger();
const here = (...names: string[]): string => join(banger.home, 'work', ...names);
const cp = (...words: string[]) => banger.run(['vm', 'cp', ...words], { cwd: here() });
const secret = `geheim-${randomBytes(12).toString('hex')}`;
let agentPid: string | undefined;

beforeAll(async () => {
  mkdirSync(here());
  // The engine that this starts must not have it either.
  mkdirSync(here('home'));
  writeFileSync(here('home/.token'), 'a token\n', { mode: 0o600 });
  writeFileSync(here('home/.gitconfig'), '[user]\n\tname = Ada\n[credential]\n\thelper = store\n');
  const env = { HOME: here('home') };
  await banger.ok(['vm', 'create', '--name', 'web', '--file-sync', '~/.token'], { env });
});
afterAll(async () => {
  if (agentPid) process.kill(Number(agentPid));
  await banger[Symbol.asyncDispose]();
});

test('a new VM has the file that was named, with its mode, and knows who its user is in git', async () => {
  const look =
    'stat -c "%a %U" /root/.token; cat /root/.token; cat /root/.config/git/banger; ls -A / | grep -c banger';
  expect(await banger.guest('web', `${look} || true`)).toBe('600 root\na token\n[user]\n\tname = "Ada"\n0');
  expect(await banger.json('vm', 'show', 'web')).toMatchObject({
    fileSync: [{ hostPath: '~/.token', guestPath: '/root/.token', source: 'vm' }],
  });
});

test('a tree goes into a guest and comes back as it was', async () => {
  mkdirSync(here('tree/sub'), { recursive: true });
  writeFileSync(here('tree/sub/data'), randomBytes(2_000_000));
  writeFileSync(here('tree/run'), '#!/bin/sh\necho ran\n', { mode: 0o755 });
  symlinkSync('sub/data', here('tree/link'));
  for (const name of ['tree/sub/data', 'tree/sub', 'tree']) utimesSync(here(name), 1e9, 1e9);
  expect(await cp('tree', 'web:/srv/')).toMatchObject({ code: 0 });
  expect(
    await banger.guest('web', '/srv/run; stat -c "%U %a %Y" /srv/run /srv/sub; readlink /srv/link'),
  ).toMatch(/^ran\nroot 755 \d+\nroot 755 1000000000\nsub\/data$/);
  expect(await cp('web:/srv', 'back')).toMatchObject({ code: 0, stdout: '' });
  expect(spawnSync('diff', ['-r', '--no-dereference', here('tree'), here('back')]).stdout.toString()).toBe(
    '',
  );
  expect(statSync(here('back/sub')).mtimeMs).toBe(1e12);
});

test('a tar goes from the guest through - to tar, and from tar into the guest', async () => {
  const { bytes } = await cp('web:/srv', '-');
  expect(spawnSync('tar', ['-t'], { input: bytes }).stdout.toString()).toContain('srv/sub/data\n');
  expect(await banger.run(['vm', 'cp', '-', 'web:/opt'], { input: bytes })).toMatchObject({ code: 1 });
  await banger.guest('web', 'mkdir /opt');
  await banger.ok(['vm', 'cp', '-', 'web:/opt'], { input: bytes });
  expect(await banger.guest('web', 'cmp /srv/sub/data /opt/srv/sub/data && echo same')).toBe('same');
});

test('Ctrl-C while a file comes leaves the old one, and no other', async () => {
  await banger.guest('web', 'dd if=/dev/urandom of=/big bs=1M count=64 2>/dev/null');
  writeFileSync(here('big'), 'before');
  const child = banger.start(['vm', 'cp', '--json', 'web:/big', here('big')]);
  const ended = collect(child);
  await until('a part of it is there', () =>
    readdirSync(here()).some((name) => name.startsWith('.banger-cp')),
  );
  child.kill('SIGINT');
  expect(await ended).toMatchObject({ code: 130 });
  expect(readFileSync(here('big'), 'utf8')).toBe('before');
  expect(readdirSync(here()).filter((name) => name.startsWith('.'))).toEqual([]);
});

test('a guest that is full says so, and keeps no half file', async () => {
  await banger.guest(
    'web',
    'mkdir -p /small && mount -t tmpfs -o size=1m tmpfs /small && echo old > /small/file',
  );
  const full = await cp('tree/sub/data', 'web:/small/file');
  expect(full).toMatchObject({ code: 1 });
  expect(full.stderr).toContain('No space left');
  expect(await banger.guest('web', 'cat /small/file; ls -A /small; umount /small')).toBe('old\nfile');
});

test('a VM that does not exist, and one that is in both, are told', async () => {
  expect(await cp('wep:/etc', '.')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('no VM named "wep"') as string,
  });
  expect(await cp('web:/a', 'web:/b')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('- | banger vm cp - web:') as string,
  });
});

test('A36: a secret is in a file and a variable of one program, and nowhere on this host', async () => {
  const script =
    'echo "$TOKEN"; cat /run/secrets/TOKEN; echo; stat -c "%a %u" /run/secrets/TOKEN; touch /tmp/up; while [ ! -e /tmp/go ]; do sleep 0.2; done; exit 7';
  const child = banger.start(['vm', 'exec', '--secret', 'TOKEN=MY_TOKEN', 'web', '--', 'sh', '-c', script], {
    env: { MY_TOKEN: secret },
  });
  const ended = collect(child);
  await until(
    'the program runs',
    async () => (await banger.guest('web', '[ -e /tmp/up ] && echo yes || true')) === 'yes',
  );

  const traces = (): string[] => {
    const files = spawnSync('grep', ['-rlaF', '--exclude=rootfs.ext4', '-e', secret, banger.home])
      .stdout.toString()
      .split('\n')
      .filter(Boolean);
    const engine = String(enginePid);
    const processes = readdirSync('/proc')
      .filter((pid) => /^\d+$/.test(pid) && pid !== String(child.pid))
      .flatMap((pid) => ['cmdline', 'environ'].map((name) => `/proc/${pid}/${name}`))
      .filter((file) => !file.endsWith('environ') || file.includes(`/${engine}/`))
      .filter((file) => contentOf(file).includes(secret));
    return [
      ...files,
      ...processes,
      ...(contentOf(`/proc/${child.pid}/cmdline`).includes(secret) ? ['our argv'] : []),
    ];
  };
  const enginePid = await banger.enginePid();
  expect(enginePid).toBeDefined();
  expect(traces()).toEqual([]);
  expect(await banger.ok(['operation', 'list', '--json'])).not.toContain(secret);
  // Another program of the guest sees nothing of it, nor is it on anybody's command line there.
  expect(
    await banger.guest(
      'web',
      'ls -A /run/secrets /run/banger/secrets; cat /proc/[0-9]*/cmdline | grep -c geheim- || true',
    ),
  ).not.toContain('TOKEN');
  await banger.guest('web', 'touch /tmp/go');
  expect(await ended).toMatchObject({ code: 7, stdout: `${secret}\n${secret}\n400 0\n`, stderr: '' });
  expect(traces()).toEqual([]);
  expect(await banger.guest('web', 'mount | grep -c /run/secrets || true')).toBe('0');
});

test("a secret for another user is that user's; one from a file keeps its lines", async () => {
  await banger.guest('web', 'echo "app:x:1234:1234::/tmp:/bin/sh" >> /etc/passwd');
  writeFileSync(here('key'), 'one\ntwo\n');
  const words = ['vm', 'exec', '--secret-file', `KEY=${here('key')}`, '-u', 'app', 'web', '--', 'sh', '-c'];
  expect(await banger.run([...words, 'id -u; cat /run/secrets/KEY; printf %s "$KEY" | wc -l'])).toMatchObject(
    {
      code: 0,
      stdout: '1234\none\ntwo\n2\n',
    },
  );
});

test.each([
  [['--secret', 'NOT_SET'], 'NOT_SET is not set here'],
  [['--secret', `TOKEN=${secret}`], 'is not a variable that is set here'],
  [['--secret', `${secret}`], 'is not the name of a variable'],
])('a secret that is not there is a usage error that does not repeat it', async (words, message) => {
  const ran = await banger.run(['vm', 'exec', ...words, 'web', '--', 'true']);
  expect(ran).toMatchObject({ code: 2, stderr: expect.stringContaining(message) as string });
  expect(ran.stderr).not.toContain(secret);
});

test('--ssh-agent lends the agent to one program; without it there is none', async () => {
  const [, socket, pid] = /SSH_AUTH_SOCK=([^;]+);[^]*SSH_AGENT_PID=(\d+);/.exec(
    spawnSync('ssh-agent', ['-s']).stdout.toString(),
  )!;
  agentPid = pid;
  const env = { SSH_AUTH_SOCK: socket! };
  spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'lent', '-f', here('id')]);
  spawnSync('ssh-add', ['-q', here('id')], { env: { ...process.env, ...env } });
  // The guest has no client: ours goes there with its libraries.
  const libraries = [
    ...spawnSync('ldd', ['/usr/bin/ssh-add'])
      .stdout.toString()
      .matchAll(/(\/\S+) \(/g),
  ].map(([, path]) => path!);
  await banger.guest('web', 'mkdir /client');
  const tar = spawnSync('tar', ['-chP', '--transform', 's|.*/||', '/usr/bin/ssh-add', ...libraries], {
    maxBuffer: 2 ** 26,
  }).stdout;
  await banger.ok(['vm', 'cp', '-', 'web:/client'], { input: tar });
  const list = '/client/ld-linux-x86-64.so.2 --library-path /client /client/ssh-add -l';
  const lent = await banger.run(['vm', 'exec', '--ssh-agent', 'web', '--', 'sh', '-c', list], { env });
  expect(lent).toMatchObject({ code: 0, stdout: expect.stringMatching(/ lent \(ED25519\)\n$/) as string });
  const shell = [
    'vm',
    'ssh',
    '--secret',
    'TOKEN',
    '--ssh-agent',
    'web',
    '--',
    `${list}; cat /run/secrets/TOKEN`,
  ];
  expect(await banger.run(shell, { env: { ...env, TOKEN: secret } })).toMatchObject({
    code: 0,
    stdout: `${lent.stdout}${secret}`,
  });
  const app = await banger.run(['vm', 'exec', '--ssh-agent', '-u', 'app', 'web', '--', 'sh', '-c', list], {
    env,
  });
  expect(app.stdout).toBe(lent.stdout);
  expect(
    (
      await banger.run(
        ['vm', 'exec', 'web', '--', 'sh', '-c', 'echo "[$SSH_AUTH_SOCK]"; ls /run/banger/tmp'],
        { env },
      )
    ).stdout,
  ).toBe('[]\n');
});

test('--ssh-agent without an agent is told before anything runs', async () => {
  const none = await banger.run(['vm', 'exec', '--ssh-agent', 'web', '--', 'true'], {
    env: { SSH_AUTH_SOCK: '' },
  });
  expect(none).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('SSH_AUTH_SOCK is not set') as string,
  });
  const file = await banger.run(['vm', 'exec', '--ssh-agent', 'web', '--', 'true'], {
    env: { SSH_AUTH_SOCK: '/etc/passwd' },
  });
  expect(file).toMatchObject({ code: 125, stderr: expect.stringContaining('it is not a socket') as string });
});

test('a stopped VM is told with how to start it', async () => {
  await banger.ok(['vm', 'stop', 'web']);
  expect(await cp('web:/etc', '.')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('banger vm start web') as string,
  });
});

function contentOf(file: string): string {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return ''; // It has just ended.
  }
}
