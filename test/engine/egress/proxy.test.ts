import { createServer as createHttp } from 'node:http';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { createServer as createTls } from 'node:tls';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { EgressGate, hostEgressWays, type EgressWays } from '../../../src/engine/egress/gate.ts';
import { EgressLog } from '../../../src/engine/egress/egress-log.ts';
import { EgressProxy } from '../../../src/engine/egress/proxy.ts';
import { exec } from '../../../src/host/exec.ts';
import { parseEgress } from '../../../src/state/egress.ts';
import { makeCertificates, type TestCertificates } from '../../support/certificates.ts';

/** Public addresses as far as the gate knows; all of them are servers of this test. */
const addresses: Readonly<Record<string, readonly string[]>> = {
  'git.example.org': ['198.41.0.4'],
  'www.example.org': ['198.41.0.5'],
  'inside.example.org': ['10.0.0.7'],
  'both.example.org': ['169.254.169.254', '198.41.0.6'],
  'self.example.org': ['198.41.0.9', '2001:470::9'],
  'loop.example.org': ['127.0.0.1', '::1'],
};
const lookups: string[] = [];
const dialled: (readonly string[])[] = [];
const servers: Server[] = [];
let certificates: TestCertificates;
let http: number;
let tls: number;
let proxy: number;
let gate: EgressGate;

const ways: EgressWays = {
  lookup: async (name) => {
    lookups.push(name);
    const found = addresses[name];
    if (!found) throw Object.assign(new Error('no such name'), { code: 'ENOTFOUND' });
    return found;
  },
  ownAddresses: () => ['10.0.0.1', '198.41.0.9', '2001:470::9'],
  dial: ({ addresses: to, port, signal }) => {
    dialled.push(to);
    return hostEgressWays().dial({
      addresses: ['127.0.0.1'],
      port: port === 443 ? tls : port === 80 ? http : port,
      signal,
    });
  },
};

async function listen(server: Server): Promise<number> {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

const big = randomBytes(8 * 1024 * 1024);

beforeAll(async () => {
  certificates = makeCertificates('DNS:*.example.org');
  http = await listen(
    createHttp((asked, answer) => {
      if (asked.url === '/big') return void answer.end(big);
      let body = '';
      asked.setEncoding('utf8');
      asked.on('data', (text: string) => (body += text));
      asked.on('end', () => {
        answer.setHeader('x-kept', 'yes');
        answer.end(JSON.stringify({ url: asked.url, headers: asked.headers, body }));
      });
    }),
  );
  tls = await listen(
    createTls(certificates.pem, (socket) =>
      socket.once('data', () => socket.end('HTTP/1.0 200 OK\r\n\r\nover TLS')),
    ),
  );
  proxy = await listen(
    createServer({ allowHalfOpen: true }, (socket) => new EgressProxy(gate, () => 'web').serve(socket)),
  );
});
afterAll(() => {
  for (const server of servers) server.close();
  certificates[Symbol.dispose]();
});
beforeEach(() => {
  lookups.length = 0;
  dialled.length = 0;
});

function allow(...rules: string[]): void {
  gate = new EgressGate(parseEgress(rules), ways);
}

/** What a program with the variables of a guest sees. */
async function curl(...args: string[]) {
  const url = `http://127.0.0.1:${proxy}`;
  const { exitCode, stdout, stderr } = await exec(
    ['curl', '-sS', '--max-time', '20', '--cacert', certificates.ca, ...args],
    {
      env: { PATH: process.env['PATH'], http_proxy: url, https_proxy: url, all_proxy: url },
      okExitCodes: Array.from({ length: 100 }, (_, code) => code),
    },
  );
  return { exitCode, stdout: stdout.toString(), stderr };
}
const blocked = () => gate.log.list().filter(({ verdict }) => verdict === 'blocked');

test('a name that a rule names is reached over HTTP, TLS and SOCKS, and its neighbour is not looked up', async () => {
  allow('git.example.org');
  const plain = JSON.parse(
    (await curl('-d', 'hello', '-H', 'Proxy-Connection: keep-alive', 'http://git.example.org/a?b')).stdout,
  ) as {
    url: string;
    body: string;
    headers: Record<string, string>;
  };
  expect(plain).toMatchObject({ url: '/a?b', body: 'hello', headers: { host: 'git.example.org' } });
  expect(Object.keys(plain.headers)).not.toContain('proxy-connection');
  expect((await curl('https://git.example.org/')).stdout).toBe('over TLS');
  expect((await curl('--proxy', `socks5h://127.0.0.1:${proxy}`, 'https://git.example.org/')).stdout).toBe(
    'over TLS',
  );
  expect(new Set(lookups)).toEqual(new Set(['git.example.org']));
  expect(dialled).toEqual([['198.41.0.4'], ['198.41.0.4'], ['198.41.0.4']]);

  const neighbour = await curl('-w', '%{http_code}', 'http://www.example.org/');
  expect(neighbour.stdout).toMatch(
    /^banger: www\.example\.org:80 is blocked: no rule names it\n.*banger vm egress show web\n403$/s,
  );
  expect((await curl('https://www.example.org/')).stderr).toContain('403');
  expect((await curl('--proxy', `socks5h://127.0.0.1:${proxy}`, 'https://www.example.org/')).exitCode).toBe(
    97,
  );
  expect(lookups).not.toContain('www.example.org');
  expect(blocked()).toMatchObject([
    { host: 'www.example.org', port: 80, reason: 'no rule names it', count: 1 },
    { host: 'www.example.org', port: 443, reason: 'no rule names it', count: 2 },
  ]);
});

test.each([
  ['http://127.0.0.1/', 'loopback'],
  ['http://2130706433/', 'loopback'],
  ['http://0x7f.1/', 'loopback'],
  ['http://0/', 'this host'],
  ['http://[::1]/', 'loopback'],
  ['http://[::ffff:169.254.169.254]/', 'metadata'],
  ['http://169.254.169.254/latest/meta-data/', 'metadata'],
  ['http://[fd00:ec2::254]/', 'private'],
  ['http://10.0.2.2/', 'private'],
  ['http://198.41.0.4/', 'no rule allows the address 198.41.0.4'],
  ['https://198.41.0.4/', 'no rule allows the address 198.41.0.4'],
])('%s leads nowhere, though every name is allowed: %s', async (url, why) => {
  allow('*');
  await curl('--noproxy', '', url);
  expect(blocked()[0]?.reason).toContain(why);
  expect(dialled).toEqual([]);
  expect(lookups).toEqual([]);
});

test('a name that means an address inside is blocked, unless a rule about addresses says otherwise', async () => {
  allow('*.example.org');
  expect((await curl('http://inside.example.org/')).stdout).toContain(
    'it is 10.0.0.7 (a private network), which no rule',
  );
  expect((await curl('http://loop.example.org/')).stdout).toContain("127.0.0.1 (this host's loopback)");
  // Public, but what listens there may be behind a firewall that the host itself is not.
  expect((await curl('http://self.example.org/')).stdout).toContain("it is 198.41.0.9 (this host's own)");
  expect(dialled).toEqual([]);
  // Of several addresses only those that may be reached are tried.
  await curl('http://both.example.org/');
  expect(dialled).toEqual([['198.41.0.6']]);
  allow('*.example.org', '198.41.0.9');
  await curl('http://self.example.org/');
  expect(dialled.splice(1)).toEqual([['198.41.0.9']]);
  allow('*.example.org', '10.0.0.0/8:80');
  await curl('http://inside.example.org/');
  await curl('http://10.1.2.3/');
  await curl('http://10.1.2.3:81/');
  expect(dialled.slice(1)).toEqual([['10.0.0.7'], ['10.1.2.3']]);
});

test('what was checked is what is connected to, whatever the name means a moment later', async () => {
  let asked = 0;
  const rebinding: EgressWays = {
    ...ways,
    lookup: async () => (asked++ === 0 ? ['198.41.0.4'] : ['127.0.0.1']),
  };
  gate = new EgressGate(parseEgress(['git.example.org']), rebinding);
  await curl('http://git.example.org/');
  expect([asked, dialled]).toEqual([1, [['198.41.0.4']]]);
  expect((await curl('http://git.example.org/')).stdout).toContain('loopback');
});

test('rules about ports hold, and with none nothing does', async () => {
  allow('git.example.org:443');
  expect((await curl('http://git.example.org/')).stdout).toContain(
    'the rule "git.example.org:443" is about another port',
  );
  expect((await curl('https://git.example.org/')).stdout).toBe('over TLS');
  allow('none');
  expect((await curl('http://git.example.org/')).stdout).toContain('egress is none');
  expect((await curl('http://1.1.1.1/')).stdout).toContain('egress is none');
});

test('TLS for another server than the tunnel was opened for is cut off; for one that is allowed it is not', async () => {
  allow('git.example.org');
  // The tunnel is for git, and the certificate and the name inside for www.
  const fronted = ['--connect-to', 'www.example.org:443:git.example.org:443', 'https://www.example.org/'];
  expect((await curl(...fronted)).exitCode).not.toBe(0);
  expect(blocked()[0]).toMatchObject({
    host: 'git.example.org',
    reason: expect.stringContaining('www.example.org') as string,
  });
  allow('git.example.org', 'www.example.org');
  expect((await curl(...fronted)).stdout).toBe('over TLS');
});

test('what does not answer is told apart from what is blocked', async () => {
  allow('*', '198.41.0.0/16');
  expect((await curl('-w', '%{http_code}', 'http://nowhere.example.net/')).stdout).toMatch(
    /not found by this host \(ENOTFOUND\)\n502$/,
  );
  const unused = await listen(createServer());
  servers.pop()!.close();
  expect((await curl('-w', '%{http_code}', `http://git.example.org:${unused}/`)).stdout).toMatch(
    /ECONNREFUSED\)\n502$/,
  );
});

test('a server that speaks first, and much in both directions, arrive whole', async () => {
  const echo = await listen(
    createServer({ allowHalfOpen: true }, (socket) => {
      socket.write('220 hello\r\n');
      socket.pipe(socket);
    }),
  );
  allow('git.example.org');
  const { stdout } = await exec(
    ['curl', '-sS', '-x', `http://127.0.0.1:${proxy}`, 'http://git.example.org/big'],
    { timeoutMs: 60_000 },
  );
  expect(stdout.equals(big)).toBe(true);

  const client = await openTunnel(`git.example.org:${echo}`);
  const greeting = await new Promise<string>((resolve) =>
    client.once('data', (data) => resolve(data.toString())),
  );
  expect(greeting).toBe('220 hello\r\n');
  client.end(big);
  const received: Buffer[] = [];
  for await (const chunk of client) received.push(chunk as Buffer);
  expect(Buffer.concat(received).equals(big)).toBe(true);
});

/** A connection after CONNECT was granted. */
async function openTunnel(authority: string): Promise<Socket> {
  const client = connect({ port: proxy, host: '127.0.0.1', allowHalfOpen: true });
  client.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  const head = 'HTTP/1.1 200 Connection established\r\n\r\n';
  let said = '';
  while (said.length < head.length) {
    const chunk = client.read(1) as Buffer | null;
    if (chunk) said += chunk.toString('latin1');
    else await new Promise((resolve) => client.once('readable', resolve));
  }
  expect(said).toBe(head);
  return client;
}

test.each([
  ['nothing at all', ''],
  ['no proxy request', 'GET / HTTP/1.1\r\nHost: git.example.org\r\n\r\n'],
  ['CONNECT to nowhere', 'CONNECT git.example.org HTTP/1.1\r\n\r\n'],
  ['CONNECT with a port too high', 'CONNECT git.example.org:99999 HTTP/1.1\r\n\r\n'],
  ['CONNECT with a header that is none', 'CONNECT a:1 HTTP/1.1\r\n: :\r\n\r\n'],
  ['SOCKS without a way to log in', '\x05\x01\x02'],
  ['SOCKS cut short', '\x05\x01\x00\x05\x01\x00\x03\xffgit'],
  ['SOCKS that wants to listen', '\x05\x01\x00\x05\x02\x00\x01\x01\x01\x01\x01\x00\x50'],
  ['SOCKS with a kind of address that is none', '\x05\x01\x00\x05\x01\x00\x07\x01\x01'],
  ['SOCKS 4', '\x04\x01\x00\x50\x01\x01\x01\x01\x00'],
  ['noise', randomBytes(2_000).toString('latin1')],
])('a client that says %s is answered or hung up on, and the next one is served', async (_, words) => {
  allow('git.example.org');
  const client = connect({ port: proxy, host: '127.0.0.1' });
  client.on('error', () => undefined);
  client.end(Buffer.from(words, 'latin1'));
  client.resume();
  await new Promise((resolve) => client.once('close', resolve));
  expect(dialled).toEqual([]);
  expect((await curl('https://git.example.org/')).stdout).toBe('over TLS');
});

test('connections end with the proxy, and a guest has so many and no more', async () => {
  allow('git.example.org');
  const mine = new EgressProxy(gate, () => 'web');
  const port = await listen(createServer((socket) => mine.serve(socket)));
  const clients = Array.from({ length: 300 }, () =>
    connect(port, '127.0.0.1')
      .on('error', () => undefined)
      .resume(),
  );
  let closed = 0;
  for (const client of clients) client.once('close', () => closed++);
  while (closed < 44) await sleep(10);
  await sleep(100);
  expect(closed).toBe(44);
  mine.closeAll();
  while (closed < 300) await sleep(10);
});

test('the log keeps the newest, counts what repeats, and shows what a terminal would obey', async () => {
  const log = new EgressLog(() => new Date(0));
  for (let at = 0; at < 1_200; at++) log.add({ host: `h${at}`, port: 1, verdict: 'blocked', reason: 'x' });
  expect(log.list()).toHaveLength(1_000);
  expect(log.list()[0]).toMatchObject({ host: 'h200', time: '1970-01-01T00:00:00.000Z', count: 1 });
  allow('none');
  await expect(gate.connect('\u001b]52;c;eA==\u0007.org', 80, new AbortController().signal)).rejects.toThrow(
    'neither a name nor an address',
  );
  expect(JSON.stringify(gate.log.list())).not.toContain('\\u001b');
});
