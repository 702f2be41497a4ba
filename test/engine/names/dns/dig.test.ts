import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Forwarder } from '../../../../src/engine/names/dns/forwarder.ts';
import { NameServer } from '../../../../src/engine/names/dns/name-server.ts';
import { Zone, type NamedVm } from '../../../../src/engine/names/dns/zone.ts';
import { collect } from '../../../support/banger.ts';

const vms: NamedVm[] = [
  { name: 'web', addresses: ['10.77.0.2', 'fd77::2'] },
  { name: 'db-1', addresses: ['10.77.0.3'] },
  { name: 'user', addresses: [] },
  // More than fits into a datagram.
  { name: 'many', addresses: Array.from({ length: 60 }, (_, n) => `10.78.0.${n + 1}`) },
];
let zone: Zone;
let server: NameServer;
const opened: NameServer[] = [];

beforeEach(async () => {
  zone = new Zone(vms, 7);
  server = await listen();
});
afterEach(() => opened.splice(0).forEach((one) => one.close()));

async function listen(forwarder?: Forwarder): Promise<NameServer> {
  const one = await NameServer.listen({ address: '127.0.0.1', port: 0, zone: () => zone, forwarder });
  opened.push(one);
  return one;
}

/** What dig says, its spaces made one; without the comments that change from time to time. */
async function dig(...words: string[]): Promise<string> {
  return digAt(server, ...words);
}

async function digAt({ port }: NameServer, ...words: string[]): Promise<string> {
  const fixed = ['@127.0.0.1', '-p', String(port), '+tries=1', '+time=5'];
  const { stdout, stderr } = await collect(spawn('dig', [...fixed, ...words]));
  return (stdout + stderr).replaceAll(/[ \t]+/g, ' ');
}

test.each([
  [['web.vm', 'A'], '10.77.0.2'],
  [['WEB.vM.', 'AAAA'], 'fd77::2'],
  [['db-1.vm'], '10.77.0.3'],
  [['-x', '10.77.0.3'], 'db-1.vm.'],
  [['-x', 'fd77::2'], 'web.vm.'],
  [['vm', 'NS'], 'localhost.'],
  [['vm', 'SOA'], 'localhost. root.localhost. 7 60 10 600 1'],
])('dig %j over UDP and TCP', async (words, answer) => {
  for (const transport of ['+notcp', '+tcp'])
    expect((await dig('+short', transport, ...words)).trim()).toBe(answer);
});

test.each([
  ['a VM that there is not', ['wep.vm'], 'NXDOMAIN'],
  ['a name below a VM', ['a.web.vm'], 'NXDOMAIN'],
  ['a VM without an address of its own', ['user.vm'], 'NOERROR'],
  ['a kind of record that VMs have not', ['web.vm', 'MX'], 'NOERROR'],
  ['a VM without IPv6', ['db-1.vm', 'AAAA'], 'NOERROR'],
])('%s: authoritative, nothing, and for how long that holds', async (_, words, status) => {
  const said = await dig(...words);
  expect(said).toContain(`status: ${status}`);
  expect(said).toMatch(/;; flags: qr aa rd; QUERY: 1, ANSWER: 0, AUTHORITY: 1,/);
  expect(said).toMatch(/\nvm\. 1 IN SOA localhost\./);
});

test.each([
  [['example.org']],
  [['.', 'NS']],
  [['vm.example.org']],
  [['-x', '10.77.0.99']],
  [['-x', '127.0.0.1']],
  [['web.vm', 'AXFR', '+tcp']],
  [['web.vm', 'IXFR=1', '+tcp']],
  [['-c', 'CH', 'version.bind', 'TXT']],
])('dig %j is refused', async (words) => {
  expect(await dig(...words)).toMatch(/REFUSED|Transfer failed/);
});

test('an answer that is too long for its way is asked for over TCP', async () => {
  const plain = await dig('many.vm', '+noedns', '+ignore');
  expect(plain).toMatch(/flags: qr aa tc rd; QUERY: 1, ANSWER: 0/);
  const large = await dig('many.vm', '+bufsize=4096', '+ignore');
  expect(large).toMatch(/flags: qr aa rd; QUERY: 1, ANSWER: 60/);
  expect(large).toContain('EDNS: version: 0, flags:; udp: 1232');
  expect((await dig('many.vm', '+noedns', '+short')).trim().split('\n')).toHaveLength(60);
});

test('another version of EDNS, and other requests than questions, are told apart', async () => {
  expect(await dig('web.vm', '+edns=1', '+noednsnegotiation')).toContain('status: BADVERS');
  expect(await dig('web.vm', '+opcode=UPDATE')).toContain('status: NOTIMP');
  expect(await dig('web.vm', '+opcode=NOTIFY')).toContain('status: NOTIMP');
});

test('what is true of VMs is asked for each time', async () => {
  expect((await dig('+short', 'new.vm')).trim()).toBe('');
  zone = new Zone([{ name: 'new', addresses: ['10.77.0.9'] }], 8);
  expect((await dig('+short', 'new.vm')).trim()).toBe('10.77.0.9');
  expect(await dig('web.vm')).toContain('status: NXDOMAIN');
});

test('names of others are handed on for guests, from the first server that answers, and ours never', async () => {
  const asked: string[] = [];
  const others = await listen();
  const silent = createSocket('udp4');
  silent.on('message', (message) => void asked.push(message.toString('latin1')));
  await new Promise<void>((resolve) => silent.bind(0, '127.0.0.1', resolve));
  const guests = await listen(
    new Forwarder({
      upstreams: () => [
        { address: '127.0.0.1', port: silent.address().port },
        { address: '127.0.0.1', port: others.port },
      ],
      timeoutMs: 300,
    }),
  );
  const handedOn = await digAt(guests, 'example.org');
  // The second one is ours, and says what it says to everybody.
  expect(handedOn).toContain('status: REFUSED');
  expect(asked.join()).toContain('example');
  asked.length = 0;
  expect(await digAt(guests, 'nothing.vm')).toContain('status: NXDOMAIN');
  expect(asked).toEqual([]);
  silent.close();
});

test('a server that there is no way to is passed over, and nothing breaks by it', async () => {
  const others = await listen();
  const guests = await listen(
    new Forwarder({
      upstreams: () => [
        // No socket can be connected to it, as to any address without a route.
        { address: '255.255.255.255', port: 53 },
        { address: '127.0.0.1', port: others.port },
      ],
      timeoutMs: 2_000,
    }),
  );
  // The second one is ours, and says what it says to everybody. What is thrown where nobody hears fails the run.
  expect(await digAt(guests, 'example.org')).toContain('status: REFUSED');
});

test('when no server answers a guest is told so, in time', async () => {
  const guests = await listen(
    new Forwarder({ upstreams: () => [{ address: '127.0.0.1', port: 9 }], timeoutMs: 200 }),
  );
  expect(await digAt(guests, 'example.org')).toContain('status: SERVFAIL');
  expect(await digAt(guests, 'example.org', '+tcp')).toContain('status: SERVFAIL');
  const none = await listen(
    new Forwarder({
      upstreams: () => {
        throw new Error('no file');
      },
    }),
  );
  expect(await digAt(none, 'example.org')).toContain('status: SERVFAIL');
});

test('an answer of somebody else, or to another question, is not taken', async () => {
  const liar = createSocket('udp4');
  liar.on('message', (message, from) => {
    const other = Buffer.from(message);
    other[2]! |= 0x80;
    other[13] = other[13]! ^ 1;
    liar.send(other, from.port, from.address);
    const otherId = Buffer.from(message);
    otherId[2]! |= 0x80;
    otherId.writeUInt16BE((message.readUInt16BE(0) + 1) & 0xffff, 0);
    liar.send(otherId, from.port, from.address);
  });
  await new Promise<void>((resolve) => liar.bind(0, '127.0.0.1', resolve));
  const upstreams = (): { address: string; port: number }[] => [
    { address: '127.0.0.1', port: liar.address().port },
  ];
  const guests = await listen(new Forwarder({ upstreams, timeoutMs: 200 }));
  expect(await digAt(guests, 'example.org')).toContain('status: SERVFAIL');
  liar.close();
});

test('clients over TCP that ask much, slowly or nonsense keep nobody else waiting', async () => {
  const query = Buffer.from(
    '001e123401000001000000000000037765620276 6d0000010001'.replaceAll(' ', ''),
    'hex',
  );
  const framed = Buffer.concat([Buffer.from([0, query.length - 0]), query]);
  const socket = connect(server.port, '127.0.0.1');
  const got: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => got.push(chunk));
  socket.on('error', () => undefined);
  for (const byte of framed.subarray(2)) socket.write(Buffer.from([byte]));
  // The last as from a page in a browser of this host, whose name leads here by now.
  const request = 'GET / HTTP/1.1\r\nHost: rebound.test\r\n\r\n';
  for (const words of [Buffer.alloc(100_000, 0xff), request]) {
    const nonsense = connect(server.port, '127.0.0.1');
    nonsense.on('error', () => undefined);
    nonsense.on('data', (chunk: Buffer) => got.push(chunk));
    const hungUp = new Promise<void>((resolve) => nonsense.once('close', () => resolve()));
    nonsense.write(words);
    await hungUp;
  }
  expect(got).toEqual([]);
  expect((await dig('+short', '+tcp', 'web.vm')).trim()).toBe('10.77.0.2');
  socket.destroy();
});
