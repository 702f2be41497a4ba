import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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
let forwarding: Forwarding & { readonly file: string };
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'banger-forwarding-'));
  forwarding = { file: join(root, 'ip_forward'), markers: join(root, 'markers') };
  writeFileSync(forwarding.file, '0\n');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const value = () => readFileSync(forwarding.file, 'utf8').trim();
const bridge = (name: string): Link => ({
  name,
  kind: 'bridge',
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
