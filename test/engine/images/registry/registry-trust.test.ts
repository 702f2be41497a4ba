import { expect, test } from 'vitest';
import { parseChallenges } from '../../../../src/engine/images/registry/registry-auth.ts';
import {
  checkForeignAddress,
  isLoopback,
  mayReceiveCredentials,
} from '../../../../src/engine/images/registry/registry-trust.ts';

test.each([
  ['https://auth.docker.io/token', 'https://registry-1.docker.io', true],
  ['https://ghcr.io/token', 'https://ghcr.io', true],
  ['https://gitlab.com/jwt/auth', 'https://registry.gitlab.com', true],
  ['https://auth.registry.example/token', 'https://registry.example', true],
  ['https://evil.example/token', 'https://registry-1.docker.io', false],
  ['https://docker.io.evil.example/token', 'https://registry-1.docker.io', false],
  ['https://evil-docker.io/token', 'https://registry-1.docker.io', false],
  ['http://auth.docker.io/token', 'https://registry-1.docker.io', false],
  ['https://evil.co.uk/token', 'https://shop.co.uk', false],
  ['https://evil.io/token', 'https://ghcr.io', false],
  ['https://10.0.0.2/token', 'https://10.0.0.1', false],
  ['https://10.0.0.1/token', 'https://10.0.0.1:5000', false],
  // docker_auth beside a registry, and GitLab with a registry on a port of its own.
  ['https://host.example:5001/auth', 'https://host.example:5000', true],
  ['https://gitlab.example/jwt/auth', 'https://gitlab.example:5050', true],
  ['https://host.example/token', 'http://host.example:5000', false],
  ['http://host.example:5001/token', 'https://host.example:5000', false],
  ['https://auth.host.example:5001/token', 'https://host.example:5000', false],
  ['http://127.0.0.1:2/token', 'http://127.0.0.1:1', true],
])('token service %s of %s gets the login: %s', (realm, registry, expected) => {
  expect(mayReceiveCredentials(new URL(realm), new URL(registry))).toBe(expected);
});

test.each([
  ['http://cdn.example/x', 'https://registry.example'],
  ['ftp://cdn.example/x', 'http://127.0.0.1:5000'],
  ['https://localhost/x', 'https://registry.example'],
  ['https://127.9.9.9/x', 'https://registry.example'],
  ['https://2130706433/x', 'https://registry.example'],
  ['https://169.254.169.254/x', 'https://registry.example'],
  ['https://[fe80::1]/x', 'https://registry.example'],
  ['http://169.254.169.254/x', 'http://10.0.0.1:5000'],
  ['http://elsewhere.example/x', 'http://10.0.0.1:5000'],
])('%s is not followed from %s', (target, registry) => {
  expect(() => checkForeignAddress(new URL(target), new URL(registry))).toThrow('points to');
});

test('storage on another host is followed', () => {
  checkForeignAddress(new URL('https://cdn.example/x'), new URL('https://registry.example'));
  checkForeignAddress(new URL('http://10.0.0.1:5000/x'), new URL('http://10.0.0.1:5000'));
  checkForeignAddress(new URL('http://localhost:9000/x'), new URL('http://127.0.0.1:5000'));
});

test('loopback is told from its look-alikes', () => {
  expect(['localhost', '127.1.2.3', '[::1]', 'a.localhost'].map(isLoopback)).toEqual([
    true,
    true,
    true,
    true,
  ]);
  expect(['localhost.evil.example', '10.0.0.1', '128.0.0.1', '[::2]'].map(isLoopback)).toEqual(
    Array(4).fill(false),
  );
});

test('challenges are read whatever their form', () => {
  expect(
    parseChallenges(
      'Bearer realm="https://a/b,c=d",service="x \\"y\\"", error=invalid_token, Basic realm="z"',
    ),
  ).toEqual([
    { scheme: 'bearer', parameters: { realm: 'https://a/b,c=d', service: 'x "y"', error: 'invalid_token' } },
    { scheme: 'basic', parameters: { realm: 'z' } },
  ]);
  expect(parseChallenges('')).toEqual([]);
});
