import { expect, test } from 'vitest';
import { publishedNameCollector } from '../../src/commands/port-options.ts';

test.each([
  ['8080', { protocol: 'tcp', hostPort: 8080 }],
  ['53/udp', { protocol: 'udp', hostPort: 53 }],
  ['8080:80', { protocol: 'tcp', hostPort: 8080, guestPort: 80 }],
  ['0.0.0.0:8080:80', { protocol: 'tcp', hostPort: 8080, guestPort: 80, bind: '0.0.0.0' }],
  ['127.0.0.1::80', { protocol: 'tcp', hostPort: 80 }],
])('what is to be removed is meant as far as it is written: %s', (text, meant) => {
  expect(publishedNameCollector('/')(text)).toEqual([meant]);
});
