import { expect, test } from 'vitest';
import {
  addressText,
  macOf,
  overlaps,
  parseAddress,
  parseSubnet,
} from '../../../src/host/network/addresses.ts';
import { findClash } from '../../../src/host/network/routes.ts';

test('an address is what it was after having been a number', () => {
  for (const text of ['0.0.0.0', '10.213.7.2', '255.255.255.255', '192.168.0.1'])
    expect(addressText(parseAddress(text)!)).toBe(text);
});

test.each(['10.0.0', '10.0.0.256', '10.0.0.1 ', '::1', '', '10.0.0.1;'])('"%s" is no address', (text) => {
  expect(parseAddress(text)).toBeUndefined();
});

test.each([
  ['10.213.1.0/24', '10.213.0.0/16', true],
  ['10.213.1.0/24', '10.213.1.77', true],
  ['10.213.1.0/24', '10.213.2.0/24', false],
  ['200.0.0.0/8', '10.0.0.0/8', false],
  ['0.0.0.0/0', '10.0.0.0/8', true],
])('whether %s and %s overlap', (one, other, expected) => {
  expect(overlaps(parseSubnet(one)!, parseSubnet(other)!)).toBe(expected);
});

test('a MAC is a locally administered one for one card, and follows from the address', () => {
  expect(macOf('10.213.7.2')).toBe('02:00:0a:d5:07:02');
});

test('a route into a network is found, whichever is larger', () => {
  const routes = [
    { subnet: '192.168.0.0/16', device: 'eth0' },
    { subnet: '10.213.4.8/32', device: 'tun0' },
  ];
  expect(findClash('10.213.4.0/24', routes)?.device).toBe('tun0');
  expect(findClash('10.213.5.0/24', routes)).toBeUndefined();
});
