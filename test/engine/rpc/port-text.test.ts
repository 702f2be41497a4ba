import { expect, test } from 'vitest';
import { parsePortText } from '../../../src/engine/rpc/port-text.ts';
import { isSocketText, parseSocketText } from '../../../src/engine/rpc/socket-text.ts';

test('two paths are a socket to publish, that of the host as seen from where it was typed', () => {
  expect(parseSocketText('/run/web.sock:/run/app.sock', '/home/me')).toEqual({
    hostPath: '/run/web.sock',
    guestPath: '/run/app.sock',
  });
  expect(parseSocketText('./a/../web.sock:/run//app.sock', '/home/me')).toEqual({
    hostPath: '/home/me/web.sock',
    guestPath: '/run/app.sock',
  });
  expect(['/a:/b', './a:/b', '../a:/b', '8080:80', 'a:/b', '.8080'].map(isSocketText)).toEqual([
    true,
    true,
    true,
    false,
    false,
    false,
  ]);
});

test.each([
  ['/web.sock', 'write HOSTPATH:GUESTPATH'],
  ['/web.sock:app.sock', 'write HOSTPATH:GUESTPATH'],
  ['/web.sock:80', 'write HOSTPATH:GUESTPATH'],
  ['/a:/b:/c', 'write HOSTPATH:GUESTPATH'],
  ['/web.sock:/', 'not the path of a socket'],
  ['/web\n.sock:/b', 'has a character'],
  [`/${'a'.repeat(107)}:/b`, 'has 108 bytes'],
  [`/a:/${'ü'.repeat(54)}`, 'has 109 bytes'],
])('%j is refused', (text, why) => {
  expect(() => parseSocketText(text, '/')).toThrow(why);
});

test.each([
  ['[::1]:8080:80', '::1'],
  ['[::]:80', '::'],
  ['[fe80::1%eth0]:8080:80/udp', 'fe80::1%eth0'],
])('the IPv6 address in %j is told as one', (text, address) => {
  expect(() => parsePortText(text)).toThrow(
    `"${address}" is an IPv6 address, and ports are published on IPv4`,
  );
});

test('one without brackets is told to be an IPv4 one', () => {
  expect(() => parsePortText('::1:8080:80')).toThrow('with an IPv4 address');
});

test.each(['8080:80', ':80', '127.0.0.1::80', '0.0.0.0:53:53/udp'])('%j has none', (text) => {
  expect(parsePortText(text)).toMatchObject({ protocol: expect.stringMatching(/^(?:tcp|udp)$/) as string });
});

test('where only ports are taken, or the path begins with neither "/" nor ".", it is told how sockets are written', () => {
  expect(() => parsePortText('web.sock:/run/app.sock')).toThrow('begins with "/" or "./"');
});
