import { randomBytes } from 'node:crypto';
import { existsSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join, resolve } from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { exec } from '../../src/host/exec.ts';
import {
  ended,
  makeShortTempDirectory,
  openBanger,
  programArgv,
  until,
  type Banger,
} from '../support/banger.ts';
import { killEngine } from '../support/crash-lab.ts';
import { startPerl } from '../support/guest-perl.ts';
import { openClosedNetwork, programInside, type ClosedNetwork } from '../support/closed-network.ts';

const bigBytes = 100_000_000;
const datagramBytes = 2_000_000;
const home = makeShortTempDirectory();
let network: ClosedNetwork;
let banger: Banger;
let udpPort = '';

beforeAll(async () => {
  network = await openClosedNetwork(home, {
    'git.test': '9.9.9.9',
    'www.test': '9.9.9.8',
    'inside.test': '10.9.9.9',
  });
  banger = openBanger(home, programInside(network, home, programArgv()));
  await banger.ok(['vm', 'create', '--name', 'web', '--egress', 'none', '-P']);
});
afterAll(async () => {
  await banger[Symbol.asyncDispose]();
  network[Symbol.dispose]();
});

/** What a guest gets from a server, by its proxy or without; what wget complains of when it gets nothing. */
const fetch = (url: string, isDirect = false): Promise<string> =>
  banger.guest(
    'web',
    `${isDirect ? 'unset http_proxy HTTP_PROXY;' : ''} timeout 10 wget -qO - ${url} 2>&1; true`,
  );

/** As a guest's root would who wants out: with a route, and past the proxy. */
const breakOut = `ip route add default via 10.0.2.2; ip route del unreachable 10.0.2.3
unset http_proxy HTTP_PROXY
for place in 10.0.2.2 9.9.9.9 10.9.9.9; do timeout 5 wget -qO - http://$place:8000/; done
echo x | timeout 3 nc -w 2 9.9.9.9 8000
for server in 10.0.2.3 9.9.9.9; do timeout 3 nslookup git.test $server; done
ping -c 1 -W 1 9.9.9.9
ip route del default
true`;

/** Runs a program of the host where the VM's ports are. */
function inside(...argv: string[]) {
  const [nsenter = '', ...words] = network.enter;
  return exec([nsenter, ...words, ...argv], { timeoutMs: 240_000, maxOutputBytes: 2 * bigBytes });
}

interface Entry {
  readonly host: string;
  readonly verdict: string;
  readonly reason?: string;
}
const blocked = async (): Promise<Record<string, string | undefined>> => {
  const { entries } = await banger.json<{ entries: Entry[] }>('vm', 'egress', 'log', 'web');
  return Object.fromEntries(entries.map(({ host, reason }) => [host, reason]));
};

test('with none nothing gets out, not by force either, and what asks the proxy is told why', async () => {
  expect(await fetch('http://git.test:8000/')).toContain('403');
  expect(await banger.guest('web', `(${breakOut}) 2>&1`)).not.toContain('hello');
  expect(network.asked).toEqual([]);
  expect(await blocked()).toEqual({ 'git.test': 'egress is none' });
});

test('what a rule names is reached by name, and its neighbours are not', async () => {
  await banger.ok(['vm', 'egress', 'set', 'web', 'git.test', 'inside.test']);
  expect(await fetch('http://git.test:8000/')).toBe('hello from git.test:8000');
  for (const host of ['www.test', 'inside.test', '9.9.9.9', '2130706433'])
    expect(await fetch(`http://${host}:8000/`), host).toContain('403');
  expect(await fetch('http://9.9.9.9:8000/', true)).not.toContain('hello');
  expect(network.asked).toEqual(['http git.test:8000 /']);
  expect(await blocked()).toMatchObject({
    'www.test': 'no rule names it',
    'inside.test': 'it is 10.9.9.9 (a private network), which no rule about addresses allows',
    '9.9.9.9': expect.stringContaining('no rule allows the address') as string,
    '127.0.0.1': expect.stringContaining('loopback') as string,
  });
  expect(await banger.ok(['vm', 'show', 'web'])).toMatch(/^Egress: +git\.test, inside\.test$/m);
});

test('an engine that was killed takes the way out along, and the next one brings it back', async () => {
  const engine = (await banger.enginePid())!;
  process.kill(engine, 'SIGKILL');
  await ended(engine);
  await until('the guest reaches what it may', async () =>
    (await fetch('http://git.test:8000/')).startsWith('hello'),
  );
  expect(await fetch('http://www.test:8000/')).toContain('403');
});

test('a published UDP port carries 100 MB intact, into a guest whose network lets nothing out', async () => {
  await startPerl(banger, 'web', ['test/support/datagram-server.pl', '99', '/tmp/datagrams']);
  const added = await banger.ok(['vm', 'port', 'add', 'web', '99/udp']);
  udpPort = /^127\.0\.0\.1:(\d+)->99\/udp$/m.exec(added)![1]!;
  expect(await banger.guest('web', 'cat /proc/net/route')).not.toMatch(/^\S+\t00000000/m);
  await sendDatagrams(bigBytes, 60_000);
});

/** Each piece is acknowledged: what is lost is sent again, and nothing arrives without answers. */
async function sendDatagrams(bytes: number, pieceBytes: number): Promise<void> {
  const sender = resolve('test/support/datagram-sender.ts');
  const words = [sender, udpPort, bytes, pieceBytes].map(String);
  const { stdout } = await inside(process.execPath, ...words);
  expect(await banger.guest('web', 'cut -c1-64 /tmp/datagrams')).toBe(stdout.toString().trim());
}

test('all is everything at once, and rules are rules again; a VM in use is left alone', async () => {
  // What it sends at the moment of the change goes nowhere, and nothing waits behind that.
  await banger.guest('web', 'ping -i 0.02 10.0.2.2 </dev/null >/dev/null 2>&1 &');
  await banger.ok(['vm', 'egress', 'set', 'web', 'all']);
  expect(await fetch('http://9.9.9.9:8000/', true)).toBe('hello from 9.9.9.9:8000');
  expect(await banger.guest('web', 'env | grep -ci proxy; true')).toBe('0');
  // Names are looked up where the host looks them up, also when it moves to another network meanwhile.
  const look = () => banger.guest('web', 'timeout 1 nslookup git.test 10.0.2.3 2>&1; true');
  await look();
  expect(network.asked).not.toContain('udp 53');
  writeFileSync(network.resolvers, 'nameserver 9.9.9.9\n');
  await until('the guest asks the new name server', async () => {
    await look();
    return network.asked.includes('udp 53');
  });
  // The port is the VMM's now, which lets answers out.
  await sendDatagrams(datagramBytes, 1400);

  const busy = banger.start(['vm', 'exec', 'web', '--', 'sh', '-c', 'echo here; sleep 600']);
  const over = new Promise((resolve) => busy.once('close', resolve));
  await new Promise((resolve) => busy.stdout!.once('data', resolve));
  const refused = await banger.run(['vm', 'egress', 'set', 'web', 'git.test']);
  expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('--force')]);
  expect(await fetch('http://9.9.9.9:8000/', true)).toContain('hello');
  await banger.ok(['vm', 'egress', 'set', 'web', 'git.test', '--force']);
  await over;
  await banger.guest('web', 'killall ping');
  // And ours again.
  await sendDatagrams(datagramBytes, 60_000);
  await banger.ok(['vm', 'port', 'remove', 'web', `${udpPort}/udp`]);
  expect(await fetch('http://9.9.9.9:8000/', true)).not.toContain('hello');
  expect(await fetch('http://git.test:8000/')).toContain('hello');
});

test('a port is added, carries 100 MB intact into a guest that reaches nothing, and is removed', async () => {
  // A guest makes it in no time, and lines of 997 bytes begin elsewhere in every packet.
  const line = randomBytes(498).toString('hex');
  const made = `mkdir -p /srv && yes ${line} | head -c ${bigBytes} >/srv/big`;
  await banger.guest('web', `${made} && httpd -p 80 -h /srv`);
  const added = await banger.ok(['vm', 'port', 'add', 'web', '80']);
  const port = /^127\.0\.0\.1:(\d+)->80\/tcp$/m.exec(added)![1]!;
  const big = (await inside('curl', '-sS', `http://127.0.0.1:${port}/big`)).stdout;
  expect(big.equals(Buffer.alloc(bigBytes, `${line}\n`))).toBe(true);
  expect(await banger.ok(['vm', 'port', 'list', 'web'])).toContain(`127.0.0.1:${port}/tcp`);
  await banger.ok(['vm', 'port', 'remove', 'web', port]);
  await expect(inside('curl', '-sS', `http://127.0.0.1:${port}/`)).rejects.toThrow('curl: (7)');
});

test('a Unix socket of the guest is one of the host and carries 10 MB each way at once, also for the next engine', async () => {
  await startPerl(banger, 'web', ['test/support/socket-server.pl', '/run/app.sock']);

  const path = join(home, 'app.sock');
  await banger.ok(['vm', 'port', 'add', 'web', `${path}:/run/app.sock`]);
  expect(await banger.ok(['vm', 'port', 'list', 'web'])).toMatch(/app\.sock +\/run\/app\.sock/);
  const dial = (line: string) => {
    const client = connect({ path, allowHalfOpen: true });
    client.write(`${line}\n`);
    return client;
  };
  const isAnswered = (): Promise<boolean> =>
    text(dial('close')).then(
      (said) => said === 'bye\n',
      () => false,
    );
  await until('the server listens', isAnswered);

  const sent = randomBytes(bigBytes / 10);
  const echo = dial('echo');
  echo.end(sent);
  const back = await buffer(echo);
  expect(back.equals(sent)).toBe(true);

  // The server has said all, and we have not.
  const count = dial('count');
  expect(await text(count)).toBe('counting\n');
  count.end(Buffer.alloc(3_000_000));
  const counted = (): Promise<string> => banger.guest('web', 'cat /run/app.sock.count; true');
  await until('the server has heard all', async () => (await counted()) === '3000000');

  await killEngine((await banger.enginePid())!);
  await banger.ok(['vm', 'list']);
  await until('the next engine listens', isAnswered);
  await banger.ok(['vm', 'port', 'remove', 'web', path]);
  expect(existsSync(path)).toBe(false);
});

test('what listens is published as long as it does, with -P', async () => {
  const port = async (): Promise<string | undefined> =>
    /127\.0\.0\.1:(\d+)\/tcp +7070\/tcp/.exec(await banger.ok(['vm', 'port', 'list', 'web']))?.[1];
  await banger.guest('web', 'echo small >/srv/small && httpd -p 7070 -h /srv');
  await until('the port is published', async () => (await port()) !== undefined);
  const { stdout } = await inside('curl', '-sS', `http://127.0.0.1:${await port()}/small`);
  expect(stdout.toString()).toBe('small\n');
  await banger.guest('web', 'killall httpd');
  await until('the port is gone', async () => (await port()) === undefined);
});
