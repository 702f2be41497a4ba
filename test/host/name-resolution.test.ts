import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkNames } from '../../src/host/doctor/names.ts';
import { findHostResolver, nameFiles, planNameResolution } from '../../src/host/name-resolution.ts';
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

test('who answers for names is seen from the files of the system', async () => {
  expect(await findHostResolver(root)).toBe('other');
  put('etc/resolv.conf', 'nameserver 192.0.2.1\n');
  expect(await findHostResolver(root)).toBe('other');
  put('etc/resolv.conf', 'search home\nnameserver 127.0.0.53\n');
  expect(await findHostResolver(root)).toBe('systemd-resolved');
  put('etc/resolv.conf', 'nameserver 127.0.0.1\n');
  expect(await findHostResolver(root)).toBe('other');
  put('etc/dnsmasq.d/README', '');
  expect(await findHostResolver(root)).toBe('dnsmasq');
  put('etc/NetworkManager/conf.d/dns.conf', '[main]\ndns = dnsmasq\n');
  expect(await findHostResolver(root)).toBe('network-manager');
  rmSync(join(root, 'etc/resolv.conf'));
  symlinkSync('../run/systemd/resolve/stub-resolv.conf', join(root, 'etc/resolv.conf'));
  expect(await findHostResolver(root)).toBe('systemd-resolved');
});

test('systemd-resolved asks us for our domains alone, for as long as the bridge is there', () => {
  const { files, apply } = planNameResolution('systemd-resolved', place);
  expect(files).toEqual([]);
  expect(apply.map((argv) => argv.join(' '))).toEqual([
    'resolvectl dns bgb0123-7 127.0.0.1:10053',
    'resolvectl domain bgb0123-7 ~vm ~7.213.10.in-addr.arpa',
    'resolvectl default-route bgb0123-7 no',
  ]);
});

test.each([
  ['dnsmasq', '/etc/dnsmasq.d/banger-1000.conf', 'dnsmasq.service'],
  ['network-manager', '/etc/NetworkManager/dnsmasq.d/banger-1000.conf', 'NetworkManager.service'],
] as const)('%s is told in a file of ours, and told again when that is gone', (resolver, path, unit) => {
  const { files, apply } = planNameResolution(resolver, place);
  expect(files).toEqual([
    { path, text: 'server=/vm/127.0.0.1#10053\nserver=/7.213.10.in-addr.arpa/127.0.0.1#10053\n' },
  ]);
  expect(apply).toEqual([['systemctl', 'try-reload-or-restart', unit]]);
  expect(nameFiles(1000)).toContainEqual({ path, forget: apply[0] });
});

test('whoever has something else is told what to enter', () => {
  const { files, apply, advice } = planNameResolution('other', { ...place, links: [] });
  expect([files, apply]).toEqual([[], []]);
  expect(advice).toContain('server=/vm/127.0.0.1#10053');
});

test('doctor says how names of VMs are found, and how they could be', async () => {
  put('etc/resolv.conf', 'nameserver 127.0.0.53\n');
  const input = { root, sshConfig: join(root, 'ssh') };
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
