import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkNames } from '../../src/host/doctor/names.ts';
import {
  findHostResolver,
  isToldOfNames,
  nameFiles,
  planNameResolution,
} from '../../src/host/name-resolution.ts';
import { fakeExec } from '../support/fakes.ts';

let root: string;
beforeEach(() => void (root = mkdtempSync(join(tmpdir(), 'banger-names-'))));
afterEach(() => rmSync(root, { recursive: true, force: true }));

function put(path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
}

const link = { name: 'bgb0123-7', zone: '7.213.10.in-addr.arpa' };
const place = { uid: 1000, address: '127.0.0.1', port: 10053, links: [link] };

const isActive = 'systemctl is-active --quiet dnsmasq.service';
const running = fakeExec().exec;
const stopped = fakeExec({ [isActive]: { exitCode: 3 } }).exec;

test('who answers for names is seen from the files of the system, and from what runs', async () => {
  expect(await findHostResolver(running, root)).toBe('other');
  put('etc/resolv.conf', 'nameserver 192.0.2.1\n');
  expect(await findHostResolver(running, root)).toBe('other');
  put('etc/resolv.conf', 'search home\nnameserver 127.0.0.53\n');
  expect(await findHostResolver(running, root)).toBe('systemd-resolved');
  put('etc/resolv.conf', 'nameserver 127.0.0.1\n');
  expect(await findHostResolver(running, root)).toBe('other');
  put('etc/dnsmasq.d/README', '');
  expect(await findHostResolver(running, root)).toBe('dnsmasq');
  expect(await findHostResolver(stopped, root)).toBe('other');
  expect(await findHostResolver(fakeExec({ [isActive]: new Error('ENOENT') }).exec, root)).toBe('other');
  put('etc/NetworkManager/conf.d/dns.conf', '[main]\ndns = dnsmasq\n');
  expect(await findHostResolver(stopped, root)).toBe('network-manager');
});

test('systemd-resolved is asked by its stub, and passed over by who reads its list of servers', async () => {
  const resolve = 'run/systemd/resolve';
  put(`${resolve}/resolv.conf`, 'nameserver 192.0.2.1\n');
  put('etc/hosts', '');
  symlinkSync(`../${resolve}/stub-resolv.conf`, join(root, 'etc/resolv.conf'));
  expect(await findHostResolver(running, root)).toBe('systemd-resolved');
  rmSync(join(root, 'etc/resolv.conf'));
  symlinkSync(`../${resolve}/resolv.conf`, join(root, 'etc/resolv.conf'));
  expect(await findHostResolver(running, root)).toBe('other');
});

test('systemd-resolved asks us for our domains alone, for as long as the bridge is there', () => {
  const { files, apply } = planNameResolution('systemd-resolved', place);
  expect(files).toEqual([]);
  expect(apply.map((argv) => argv.join(' '))).toEqual([
    'resolvectl default-route bgb0123-7 no',
    'resolvectl domain bgb0123-7 ~vm ~7.213.10.in-addr.arpa',
    'resolvectl dns bgb0123-7 127.0.0.1:10053',
  ]);
});

test.each([
  ['dnsmasq', '/etc/dnsmasq.d/banger-1000.conf', 'try-restart dnsmasq.service'],
  [
    'network-manager',
    '/etc/NetworkManager/dnsmasq.d/banger-1000.conf',
    'try-reload-or-restart NetworkManager.service',
  ],
] as const)('%s is told in a file of ours, and told again when that is gone', (resolver, path, command) => {
  const { files, apply } = planNameResolution(resolver, place);
  expect(files).toEqual([
    { path, text: 'server=/vm/127.0.0.1#10053\nserver=/7.213.10.in-addr.arpa/127.0.0.1#10053\n' },
  ]);
  expect(apply.map((argv) => argv.join(' '))).toEqual([`systemctl ${command}`]);
  expect(nameFiles(1000)).toContainEqual({ path, forget: apply[0] });
});

test('whoever has something else is told what to enter', () => {
  const { files, apply, advice } = planNameResolution('other', { ...place, links: [] });
  expect([files, apply]).toEqual([[], []]);
  expect(advice).toContain('server=/vm/127.0.0.1#10053');
});

test('doctor says how names of VMs are found, and how they could be', async () => {
  put('etc/resolv.conf', 'nameserver 127.0.0.53\n');
  const input = { root, sshConfig: join(root, 'ssh'), uid: 1000, links: [] };
  const routed = fakeExec({
    'resolvectl domain': { stdout: Buffer.from('Global:\nLink 3 (banger0): ~vm\n') },
  });
  expect(await checkNames({ ...input, exec: routed.exec })).toMatchObject({
    status: 'pass',
    evidence: 'ssh does not know VMs (banger ssh-config --install); systemd-resolved asks banger for NAME.vm',
  });
  put('ssh', '# >>> banger: VMs as NAME.vm (…)\n');
  const plain = fakeExec({
    'resolvectl domain': { stdout: Buffer.from('Link 3 (vmnet): ~vmware home.vm\n') },
  });
  expect((await checkNames({ ...input, exec: plain.exec })).evidence).toBe(
    'ssh NAME.vm works; systemd-resolved does not ask banger for NAME.vm',
  );
  const none = fakeExec({ 'resolvectl domain': new Error('ENOENT') });
  expect((await checkNames({ ...input, exec: none.exec })).evidence).toContain('does not ask banger');
});

test.each([
  ['dnsmasq', 'etc/dnsmasq.d/banger-1000.conf'],
  ['network-manager', 'etc/NetworkManager/dnsmasq.d/banger-1000.conf'],
])('doctor knows that %s was told by its file', async (resolver, path) => {
  put('etc/resolv.conf', 'nameserver 127.0.0.1\n');
  put('etc/dnsmasq.d/README', '');
  if (resolver === 'network-manager') put('etc/NetworkManager/NetworkManager.conf', 'dns=dnsmasq\n');
  const input = { root, sshConfig: join(root, 'ssh'), uid: 1000, links: [], exec: running };
  expect((await checkNames(input)).evidence).toContain('dnsmasq does not ask banger');
  put(path, '');
  expect((await checkNames(input)).evidence).toContain('dnsmasq asks banger');
});

test('of the bridges of a setup, systemd-resolved was told only when it was told of all', async () => {
  const told = { stdout: Buffer.from('Link 3 (bgb0123-7): ~vm\n') };
  const { exec } = fakeExec({ 'resolvectl domain': told, 'resolvectl domain bgb0123-7': told });
  const place = { resolver: 'systemd-resolved', uid: 1000 } as const;
  expect(await isToldOfNames(exec, { ...place, links: [] })).toBe(true);
  expect(await isToldOfNames(exec, { ...place, links: ['bgb0123-7'] })).toBe(true);
  expect(await isToldOfNames(exec, { ...place, links: ['bgb0123-7', 'bgb0123-8'] })).toBe(false);
});
