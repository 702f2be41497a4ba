import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  ensureForwarding,
  hasTurnedOnForwarding,
  releaseForwarding,
  type Forwarding,
} from '../../../src/host/network/forwarding.ts';
import type { Link } from '../../../src/host/network/links.ts';

let root: string;
let settings: string;
let forwarding: Forwarding & { readonly file: string };
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'banger-forwarding-'));
  settings = join(root, 'sysctl.d');
  forwarding = { file: join(root, 'ip_forward'), markers: join(root, 'markers'), settings: [settings] };
  writeFileSync(forwarding.file, '0\n');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const value = () => readFileSync(forwarding.file, 'utf8').trim();
const bridge = (name: string, kind: string | undefined = 'bridge'): Link => ({
  name,
  kind,
  isUp: true,
  isIsolated: false,
  addresses: [],
});

test('forwarding that was off is off again afterwards', async () => {
  await ensureForwarding(forwarding);
  expect(value()).toBe('1');
  await releaseForwarding(forwarding, []);
  expect([value(), await hasTurnedOnForwarding(forwarding)]).toEqual(['0', false]);
});

test('forwarding that was on stays on', async () => {
  writeFileSync(forwarding.file, '1\n');
  await ensureForwarding(forwarding);
  expect(existsSync(forwarding.markers)).toBe(false);
  await releaseForwarding(forwarding, []);
  expect(value()).toBe('1');
});

test('it stays on while another banger has bridges, which turns it off in the end', async () => {
  await ensureForwarding(forwarding);
  await releaseForwarding(forwarding, [bridge('bgb9999-1')]);
  expect(value()).toBe('1');
  await releaseForwarding(forwarding, []);
  expect(value()).toBe('0');
});

test('who came to rely on it meanwhile keeps it', async () => {
  await ensureForwarding(forwarding);
  await releaseForwarding(forwarding, [bridge('docker0')]);
  expect([value(), await hasTurnedOnForwarding(forwarding)]).toEqual(['1', false]);
});

test.each([
  ['tailscale0', 'tun'],
  ['tun0', 'tun'],
  ['flannel.1', 'vxlan'],
  ['cali0123456789a', 'veth'],
  ['mac0', 'macvlan'],
])('so does who has %s, of kind %s, which is up', async (name, kind) => {
  await ensureForwarding(forwarding);
  await releaseForwarding(forwarding, [bridge(name, kind)]);
  expect([value(), await hasTurnedOnForwarding(forwarding)]).toEqual(['1', false]);
});

test('cards, a container’s own, and taps of ours that are left do not need it', async () => {
  await ensureForwarding(forwarding);
  const cards = [
    bridge('lo', ''),
    bridge('enp1s0', ''),
    bridge('eth0', 'veth'),
    bridge('bgt9999-1-1', 'tun'),
  ];
  await releaseForwarding(forwarding, [...cards, { ...bridge('tun0', 'tun'), isUp: false }]);
  expect(value()).toBe('0');
});

test.each([
  ['net.ipv4.ip_forward = 1', '1'],
  ['-net/ipv4/conf/all/forwarding=1', '1'],
  ['# net.ipv4.ip_forward = 1', '0'],
  ['net.ipv4.ip_forward = 0', '0'],
])('with "%s" set for every boot it is %s afterwards', async (line, left) => {
  await ensureForwarding(forwarding);
  mkdirSync(settings);
  writeFileSync(join(settings, '99-tailscale.conf'), `kernel.panic = 5\n${line}\n`);
  await releaseForwarding(forwarding, []);
  expect(value()).toBe(left);
});
