import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { collect, makeDirectory, openBanger, until, type Ran } from '../support/banger.ts';

const banger = openBanger();
const config = join(banger.home, 'ssh_config');
const mine = 'Host *\n  ControlMaster auto\n  ControlPath ' + banger.home + '/mux-%C\n  ControlPersist 30';
const here = (name: string): string => join(makeDirectory(banger.home, 'work'), name);

/** The user's own client, as it is on this host; only its configuration is in another place. */
const run = (program: string, ...words: string[]): Promise<Ran> =>
  collect(spawn(program, ['-F', config, ...words]));
const ssh = (...words: string[]): Promise<Ran> => run('ssh', ...words);

beforeAll(async () => {
  writeFileSync(config, mine);
  await banger.ok(['vm', 'create', '--name', 'web']);
  await banger.ok(['ssh-config', '--install', '--file', config]);
  writeFileSync(here('data'), randomBytes(1_000_000));
});
afterAll(() => banger[Symbol.asyncDispose]());

test('ssh NAME.vm is root in the VM, with input, output and exit code passed through', async () => {
  const child = spawn('ssh', ['-F', config, 'web.vm', 'hostname; id -un; cat; echo oops >&2; exit 7']);
  expect(await collect(child, 'said\n')).toMatchObject({
    code: 7,
    stdout: 'web\nroot\nsaid\n',
    stderr: 'oops\n',
  });
});

test('scp, sftp and rsync carry a file there and back as it was', async () => {
  expect(await run('scp', '-p', here('data'), 'web.vm:/root/by-scp')).toMatchObject({ code: 0 });
  writeFileSync(here('batch'), `get /root/by-scp ${here('by-sftp')}\n`);
  expect(await run('sftp', '-b', here('batch'), 'web.vm')).toMatchObject({ code: 0 });
  expect(readFileSync(here('by-sftp'))).toEqual(readFileSync(here('data')));

  // The guest has none: ours goes there with its libraries.
  const libraries = [
    ...spawnSync('ldd', ['/usr/bin/rsync'])
      .stdout.toString()
      .matchAll(/(\/\S+) \(/g),
  ];
  const parts = ['/usr/bin/rsync', ...libraries.map(([, path]) => path!)];
  const tar = spawnSync('tar', ['-chP', '--transform', 's|.*/||', ...parts], { maxBuffer: 2 ** 26 }).stdout;
  await banger.guest('web', 'mkdir /tools');
  await banger.ok(['vm', 'cp', '-', 'web:/tools'], { input: tar });
  const rsync = '/tools/ld-linux-x86-64.so.2 --library-path /tools /tools/rsync';
  const words = ['-a', '-e', `ssh -F ${config}`, '--rsync-path', rsync];
  const sent = await collect(spawn('rsync', [...words, `${here('')}/`, 'web.vm:/root/by-rsync/']));
  expect(sent, sent.stderr).toMatchObject({ code: 0 });
  expect(await banger.guest('web', 'cmp /root/by-scp /root/by-rsync/data && echo same')).toBe('same');
});

test('git clones from a VM', async () => {
  await banger.guest(
    'web',
    'git init -q /root/repo && cd /root/repo && git -c user.name=a -c user.email=b commit -q --allow-empty -m begin',
  );
  const env = { ...process.env, GIT_SSH_COMMAND: `ssh -F ${config}` };
  const cloned = await collect(spawn('git', ['clone', '-q', 'web.vm:repo', here('clone')], { env }));
  expect(cloned, cloned.stderr).toMatchObject({ code: 0 });
  expect(spawnSync('git', ['-C', here('clone'), 'log', '--format=%s']).stdout.toString()).toBe('begin\n');
});

test('many sessions at once all say how they ended, also for a user who shares connections', async () => {
  const codes = await Promise.all(
    Array.from({ length: 12 }, (_, n) => ssh('web.vm', `exit ${n}`).then(({ code }) => code)),
  );
  expect(codes).toEqual(codes.map((_, n) => n));
});

test('a port that is forwarded over one session carries several connections at once', async () => {
  await banger.guest(
    'web',
    'mkdir -p /www && cp /root/by-scp /www/data && /run/banger/bin/busybox httpd -p 8080 -h /www',
  );
  const port = await freePort();
  const tunnel = spawn('ssh', ['-F', config, '-N', '-L', `${port}:localhost:8080`, 'web.vm'], {
    stdio: 'ignore',
  });
  const ended = end(tunnel);
  try {
    const get = async (): Promise<Buffer | undefined> =>
      fetch(`http://127.0.0.1:${port}/data`).then(
        async (answer) => Buffer.from(await answer.arrayBuffer()),
        () => undefined,
      );
    await until('the port is forwarded', async () => (await get()) !== undefined);
    const data = readFileSync(here('data'));
    for (const got of await Promise.all([get(), get(), get()])) expect(got?.equals(data)).toBe(true);
  } finally {
    tunnel.kill();
    await ended;
  }
});

/** What VS Code Remote does, and editors like it: a script on standard input of `ssh -T` answers where their server is. */
const bootstrap = `
echo "on==$(uname -sm)=="
here=~/.editor-server
pid=$(cat $here/pid 2>/dev/null || echo none)
if ! kill -0 "$pid" 2>/dev/null; then
  mkdir -p $here && tar -xzf ~/editor-server.tar.gz -C $here
  setsid sh $here/start >$here/log 2>&1 </dev/null &
  echo $! >$here/pid
fi
echo "pid==$(cat $here/pid)=="
`;

test('the server of an editor is sent and started, reached through the session, and found again by the next', async () => {
  const files = makeDirectory(banger.home, 'server');
  writeFileSync(
    join(files, 'start'),
    'exec /run/banger/bin/busybox httpd -f -p 127.0.0.1:7001 -h ~/.editor-server\n',
  );
  writeFileSync(join(files, 'hello'), 'from the editor');
  spawnSync('tar', ['-czf', here('editor-server.tar.gz'), '-C', files, '.']);
  expect(await run('scp', here('editor-server.tar.gz'), 'web.vm:')).toMatchObject({ code: 0 });

  const begin = async (...words: string[]) => {
    const session = spawn('ssh', ['-T', '-F', config, ...words, 'web.vm', 'sh']);
    const said: string[] = [];
    session.stdout.on('data', (chunk: Buffer) => said.push(chunk.toString()));
    // It stays open: what is forwarded goes through it.
    session.stdin.write(bootstrap);
    const pid = (): string | undefined => /pid==(\d+)==/.exec(said.join(''))?.[1];
    await until('the server is started', () => pid() !== undefined);
    return { session, said: said.join(''), pid: pid(), over: end(session) };
  };
  const [socks, port] = [await freePort(), await freePort()];
  const first = await begin('-D', String(socks));
  expect(first.said).toContain('on==Linux ');
  const proxy = ['--socks5-hostname', `127.0.0.1:${socks}`];
  const isServed = async (...words: string[]): Promise<boolean> =>
    (await collect(spawn('curl', ['-sS', ...words]))).stdout === 'from the editor';
  await until('it is reached as the guest reaches it', () =>
    isServed(...proxy, 'http://127.0.0.1:7001/hello'),
  );
  // As when a laptop is closed.
  first.session.kill('SIGKILL');
  await first.over;
  const next = await begin('-L', `${port}:127.0.0.1:7001`);
  expect(next.pid).toBe(first.pid);
  await until('it is reached by a port', () => isServed(`http://127.0.0.1:${port}/hello`));
  next.session.stdin.end();
  await next.over;
  expect(await banger.guest('web', 'kill "$(cat ~/.editor-server/pid)" && echo was there')).toBe('was there');
});

test('a VM keeps its key under another name, and a server with another key is not talked to', async () => {
  await banger.ok(['vm', 'rename', 'web', 'shop']);
  expect(await ssh('shop.vm', 'true')).toMatchObject({ code: 0 });
  expect(await ssh('web.vm', 'true')).toMatchObject({
    code: 255,
    stderr: expect.stringContaining('banger: There is no VM named "web"') as string,
  });
  writeFileSync(here('known'), `shop.vm ${spawnKey()}\n`);
  expect(await ssh('-o', `UserKnownHostsFile=${here('known')}`, 'shop.vm', 'true')).toMatchObject({
    code: 255,
    stderr: expect.stringContaining('Host key verification failed') as string,
  });
});

test('a session goes on when the engine is stopped, and the next one starts it', async () => {
  const child = spawn('ssh', ['-F', config, 'shop.vm', 'echo up; read word; echo "$word"']);
  const output: string[] = [];
  child.stdout.on('data', (chunk: Buffer) => output.push(chunk.toString()));
  const ended = end(child);
  await until('the session is there', () => output.join('') === 'up\n');
  await banger.ok(['engine', 'stop']);
  await until('the engine is gone', async () => (await banger.enginePid()) === undefined);
  child.stdin.end('still here\n');
  await ended;
  expect(output.join('')).toBe('up\nstill here\n');
  expect((await ssh('shop.vm', 'hostname')).stdout).toBe('shop\n');
});

test('a VM that is paused or stopped is told with the command that helps', async () => {
  await banger.ok(['vm', 'pause', 'shop']);
  expect((await ssh('shop.vm', 'true')).stderr).toContain('  Let it go on with: banger vm resume shop\n');
  await banger.ok(['vm', 'stop', 'shop']);
  const stopped = await ssh('shop.vm', 'true');
  expect(stopped.code).toBe(255);
  expect(stopped.stderr).toContain(
    'banger: VM "shop" is not running\n  Start it with: banger vm start shop\n',
  );
});

test("taking it out leaves the user's file as it was, to the byte", async () => {
  await banger.ok(['ssh-config', '--uninstall', '--file', config]);
  expect(readFileSync(config, 'utf8')).toBe(mine);
});

function spawnKey(): string {
  spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', here('other')]);
  return readFileSync(here('other.pub'), 'utf8').trim();
}

function end(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => void child.once('close', () => resolve()));
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
