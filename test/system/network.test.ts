import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeShortTempDirectory, openBanger, programArgv, until, type Banger } from '../support/banger.ts';
import { killEngine } from '../support/crash-lab.ts';
import { startPerl } from '../support/guest-perl.ts';
import {
  canMakeLab,
  labAddresses,
  labReason,
  openNetworkLab,
  type NetworkLab,
} from '../support/network-lab.ts';

const [tcpPort, udpPort] = [18_080, 18_099];
/** The way is that of every network: see reach.test.ts for more. */
const megabytes = 20;

/** Sends so many megabytes to a port of the loopback, and prints their SHA-256. */
const upload = `
const { createHash } = require('node:crypto'), hash = createHash('sha256');
const socket = require('node:net').connect({ port: ${tcpPort}, host: '127.0.0.1', allowHalfOpen: true });
let left = ${megabytes};
(function next() {
  if (left-- === 0) return socket.end(() => console.log(hash.digest('hex')));
  const piece = Buffer.alloc(1e6, left % 251);
  hash.update(piece);
  socket.write(piece) ? setImmediate(next) : socket.once('drain', next);
})();`;

describe.skipIf(!canMakeLab)(`VMs behind bridges${labReason}`, () => {
  let lab: NetworkLab;
  let banger: Banger;
  let before: string;
  const address = new Map<string, string>();

  beforeAll(async () => {
    lab = openNetworkLab();
    before = lab.snapshot();
    const home = makeShortTempDirectory();
    const program = join(home, 'banger-in-lab');
    const words = ['ip', 'netns', 'exec', lab.host, ...programArgv()].map((word) => `'${word}'`).join(' ');
    writeFileSync(program, `#!/bin/sh\nexec ${words} "$@"\n`);
    chmodSync(program, 0o755);
    banger = openBanger(home, program);
    banger.configure('[vm]\nmemory = "192M"\ncpus = 1\nnetwork = "bridge"\n');
    await banger.ok(['network', 'create', 'lab']);
    const ports = ['-p', `${tcpPort}:80`, '-p', `${udpPort}:99/udp`];
    // The first alone: it makes the image, which the others then share.
    await banger.ok(['vm', 'create', '--name', 'alone', ...ports]);
    await Promise.all(
      ['one', 'two'].map((name) => banger.ok(['vm', 'create', '--name', name, '--network', 'lab'])),
    );
    for (const vm of await banger.json<{ name: string; address: string }[]>('vm', 'list'))
      address.set(vm.name, vm.address);
  });
  afterAll(async () => {
    await banger[Symbol.asyncDispose]();
    lab[Symbol.dispose]();
  });

  const ping = (from: string, to: string) =>
    banger.run(['vm', 'exec', from, '--', 'ping', '-c', '1', '-W', '2', to]).then(({ code }) => code === 0);
  const gateway = (name: string) => address.get(name)!.replace(/\d+$/, '1');

  test('those of one network reach each other, and nobody of another; each reaches its gateway', async () => {
    const [alone, one, two] = ['alone', 'one', 'two'].map((name) => address.get(name)!);
    expect(await ping('one', two!)).toBe(true);
    expect(await ping('two', one!)).toBe(true);
    expect(await ping('one', gateway('one'))).toBe(true);
    expect(
      await Promise.all([ping('one', alone!), ping('alone', one!), ping('alone', gateway('one'))]),
    ).toEqual([
      false,
      false,
      // The host's own address on another network is a service of the host's like any other, but for pings.
      true,
    ]);
  });

  test('those of one network know each other by name, and those that are kept apart do not', async () => {
    const ask = (from: string, name: string) =>
      banger.run(['vm', 'exec', from, '--', 'ping', '-c', '1', '-W', '2', name]);
    expect((await ask('one', 'two.vm')).stdout).toContain(`(${address.get('two')})`);
    expect((await ask('two', 'one.vm')).code).toBe(0);
    for (const [from, name] of [
      ['one', 'alone.vm'],
      ['alone', 'one.vm'],
    ] as const)
      expect((await ask(from, name)).code, `${name} for ${from}`).not.toBe(0);
    // Only that: what else the host has on the same port of another address is out of reach.
    const direct = `nc -w 2 ${gateway('one')} 10053 </dev/null 2>&1 && echo open; true`;
    expect(await banger.guest('one', direct)).not.toContain('open');
  });

  test('they reach a server beyond the host by its address, and that reaches none of them', async () => {
    const code = `require('node:http').createServer((q, s) => s.end(q.socket.remoteAddress)).listen(8000, '0.0.0.0')`;
    const server = `nohup ${process.execPath} -e "${code}" >/dev/null 2>&1 & echo $!`;
    const pid = Number(lab.run(['sh', '-c', server], lab.world));
    try {
      const fetch = `wget -q -O - http://${labAddresses.world}:8000/`;
      await until(
        'the server answers',
        async () => (await banger.run(['vm', 'exec', 'alone', '--', 'sh', '-c', fetch])).code === 0,
      );
      expect(await banger.guest('alone', fetch)).toBe(labAddresses.host);
      expect(await banger.guest('one', fetch)).toBe(labAddresses.host);
    } finally {
      process.kill(pid);
    }
    await banger.guest('alone', 'nc -l -p 7 </dev/null >/dev/null 2>&1 &');
    const subnet = address.get('alone')!.replace(/\d+$/, '0/24');
    lab.run(['ip', 'route', 'add', subnet, 'via', labAddresses.host], lab.world);
    await listening(7);
    const dial = `const s=require('node:net').connect({host:'${address.get('alone')}',port:7});s.setTimeout(1500,()=>{console.log('nothing');process.exit()});s.on('connect',()=>{console.log('reached');process.exit()}).on('error',e=>console.log(e.code))`;
    expect(lab.node(dial, lab.world)).toBe('nothing');
    // From the host it is reached: the server is there.
    expect(lab.node(dial)).toBe('reached');
  });

  test('rules hold on a VM that runs: beyond its network it reaches what they name, and its neighbours as ever', async () => {
    const code = `require('node:http').createServer((q, s) => s.end('hello from ' + q.headers.host)).listen(8000, '0.0.0.0')`;
    const server = `nohup ${process.execPath} -e "${code}" >/dev/null 2>&1 & echo $!`;
    const pid = Number(lab.run(['sh', '-c', server], lab.world));
    const direct = 'unset http_proxy HTTP_PROXY;';
    const fetch = (vm: string, host: string, before = '') =>
      banger.guest(vm, `${before} timeout 10 wget -qO - http://${host}:8000/ 2>&1; true`);
    try {
      expect(await fetch('one', '9.9.9.9')).toContain('hello');
      await banger.ok(['vm', 'egress', 'set', 'one', 'git.test']);
      expect(await fetch('one', 'git.test')).toBe('hello from git.test:8000');
      for (const host of ['www.test', '9.9.9.9']) expect(await fetch('one', host), host).toContain('403');
      const { entries } = await banger.json<{ entries: object[] }>('vm', 'egress', 'log', 'one');
      expect(entries).toContainEqual(
        expect.objectContaining({ host: 'www.test', verdict: 'blocked', reason: 'no rule names it' }),
      );
      // As its root would who wants out, also while no engine is there to hold it.
      await killEngine((await banger.enginePid())!);
      const route = `ip route add default via ${gateway('one')};`;
      const breakOut = `${direct} ${route} timeout 3 wget -qO - http://9.9.9.9:8000/; nslookup git.test ${gateway('one')}; ping -c 1 -W 1 9.9.9.9; ip route del default; true`;
      expect(await banger.guest('one', breakOut)).not.toMatch(/hello|9\.9\.9\.9[^:]*\n.*ttl=/);
      expect(await ping('one', 'two.vm')).toBe(true);
      expect(await ping('two', 'one.vm')).toBe(true);
      expect(await fetch('two', '9.9.9.9')).toContain('hello');
      await until('it reaches what it may', async () =>
        (await fetch('one', 'git.test')).includes('hello from git.test'),
      );
      await banger.ok(['vm', 'egress', 'set', 'one', 'all']);
      expect(await fetch('one', '9.9.9.9')).toContain('hello');
    } finally {
      process.kill(pid);
    }
  });

  test('services of the host are not for its guests, whatever address they listen on', async () => {
    const code = `require('node:net').createServer((s) => s.end('secret')).listen(7777, '0.0.0.0')`;
    const pid = Number(
      lab.run(['sh', '-c', `nohup ${process.execPath} -e "${code}" >/dev/null 2>&1 & echo $!`]),
    );
    try {
      const ask = (host: string) =>
        `const s=require('node:net').connect(7777,'${host}');s.on('data',d=>console.log(String(d))).on('error',e=>console.log(e.code))`;
      await until('the service is there', () => lab.node(ask('127.0.0.1')) === 'secret');
      expect(lab.node(ask(labAddresses.host))).toBe('secret');
      for (const host of [gateway('alone'), labAddresses.host, '169.254.77.2', '10.0.2.2']) {
        const said = await banger.guest('alone', `nc -w 2 ${host} 7777 </dev/null 2>&1; true`);
        expect([host, said.includes('secret')]).toEqual([host, false]);
      }
    } finally {
      process.kill(pid);
    }
  });

  const listening = (port: number) =>
    until(`port ${port} of the guest is listened on`, async () =>
      (await banger.guest('alone', 'netstat -ltun')).includes(`:${port} `),
    );

  test('published ports carry TCP whole, also when no engine is there, and UDP both ways when one is again', async () => {
    await banger.guest('alone', '(nc -l -p 80 </dev/null | sha256sum >/tmp/sum) >/dev/null 2>&1 &');
    await startPerl(banger, 'alone', ['test/support/datagram-server.pl', '99', '/tmp/datagrams']);
    await listening(80);
    await killEngine((await banger.enginePid())!);
    const sum = lab.node(upload);
    await until('all has arrived', async () => (await banger.guest('alone', 'cat /tmp/sum')) !== '');
    expect(await banger.guest('alone', 'cut -c1-64 /tmp/sum')).toBe(sum);
    const sender = resolve('test/support/datagram-sender.ts');
    const sent = lab.run([process.execPath, sender, String(udpPort), '2000000', '60000']);
    expect(await banger.guest('alone', 'cut -c1-64 /tmp/datagrams')).toBe(sent.trim());
  });

  test('an engine that starts restates rules and taps that somebody has flushed meanwhile', async () => {
    const made = lab.run(['nft', 'list', 'ruleset']);
    expect(made).toContain(address.get('one'));
    await banger.ok(['vm', 'list']);
    await killEngine((await banger.enginePid())!);
    lab.run(['nft', 'flush', 'ruleset']);
    await banger.ok(['vm', 'list']);
    expect(lab.run(['nft', 'list', 'ruleset'])).toBe(made);
  });

  test('a network is not deleted while VMs are on it, and a name that is taken is refused', async () => {
    expect((await banger.run(['network', 'delete', 'lab'])).stderr).toContain('used by VM one, two');
    expect((await banger.run(['network', 'create', 'lab'])).stderr).toContain(
      'already a network named "lab"',
    );
    const shown = await banger.json<{ vms: unknown[] }>('network', 'show', 'lab');
    expect(shown.vms).toContainEqual({ name: 'one', address: address.get('one') });
  });

  test('an engine that is killed while the last VMs go leaves nothing that the next does not remove', async () => {
    const engine = await banger.enginePid();
    const deleting = banger.run(['vm', 'delete', 'alone', 'one', 'two']);
    const taps = () => lab.run(['ip', 'link', 'show']).split('bgt').length;
    const all = taps();
    await until('the first tap goes', () => taps() < all);
    await killEngine(engine!);
    await deleting;
    // Those that the client had not asked for yet.
    for (const { name } of await banger.json<{ name: string }[]>('vm', 'list'))
      await banger.ok(['vm', 'delete', name]);
    await banger.ok(['network', 'delete', 'lab']);
    expect(lab.snapshot()).toBe(before);
    expect(readFileSync(join(banger.home, 'state/engine.log'), 'utf8')).not.toContain(
      'could not be set right',
    );
  });
});
