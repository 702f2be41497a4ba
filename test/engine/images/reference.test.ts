import { expect, test } from 'vitest';
import { canonicalName, familiarName, parseReference } from '../../../src/engine/images/reference.ts';

const digest = `sha256:${'0123456789abcdef'.repeat(4)}`;

test.each([
  ['ubuntu', 'docker.io/library/ubuntu:latest'],
  ['ubuntu:24.04', 'docker.io/library/ubuntu:24.04'],
  ['library/ubuntu', 'docker.io/library/ubuntu:latest'],
  ['docker.io/ubuntu', 'docker.io/library/ubuntu:latest'],
  ['index.docker.io/library/ubuntu', 'docker.io/library/ubuntu:latest'],
  ['owner/name', 'docker.io/owner/name:latest'],
  ['a/b/c:T.1-x_y', 'docker.io/a/b/c:T.1-x_y'],
  ['localhost/x', 'localhost/x:latest'],
  ['localhost:5000/x', 'localhost:5000/x:latest'],
  ['x:5000', 'docker.io/library/x:5000'],
  ['ghcr.io/owner/name:v1', 'ghcr.io/owner/name:v1'],
  ['127.0.0.1:5000/a/b', '127.0.0.1:5000/a/b:latest'],
  ['[::1]:5000/a', '[::1]:5000/a:latest'],
  ['Host/name', 'Host/name:latest'],
  ['my__name/a--b.c', 'docker.io/my__name/a--b.c:latest'],
  [`ubuntu@${digest}`, `docker.io/library/ubuntu@${digest}`],
  [`ubuntu:24.04@${digest}`, `docker.io/library/ubuntu@${digest}`],
  [`localhost:5000/x@${digest}`, `localhost:5000/x@${digest}`],
])('"%s" is %s', (text, canonical) => {
  expect(canonicalName(parseReference(text))).toBe(canonical);
});

test.each([
  ['', 'no name'],
  [':tag', 'no name'],
  ['Ubuntu', 'lowercase'],
  ['owner/Name', 'lowercase'],
  ['a..b', 'not a repository name'],
  ['a///b', 'not a repository name'],
  ['-a', 'not a repository name'],
  ['a/../b', 'not a repository name'],
  ['a b', 'not a repository name'],
  ['a\n', 'not a repository name'],
  ['a:b\n', 'not a tag'],
  ['ubuntu:', 'not a tag'],
  ['ubuntu:-x', 'not a tag'],
  [`ubuntu:${'x'.repeat(129)}`, 'not a tag'],
  ['ubuntu@sha256:12', 'not a SHA-256 digest'],
  [`ubuntu@sha512:${'a'.repeat(128)}`, 'not a SHA-256 digest'],
  ['a'.repeat(64), 'image id'],
  ['docker://ubuntu', 'URL'],
  ['https://ghcr.io/a/b', 'URL'],
  ['host_name.x/a', 'not a registry host'],
  ['user@host.io/a', 'not a SHA-256 digest'],
  [`${'a/'.repeat(130)}a`, 'longer than 255'],
])('"%s" is refused: %s', (text, why) => {
  expect(() => parseReference(text)).toThrow(why);
});

test('capitals get the hint that would have worked', () => {
  expect(() => parseReference('Ubuntu')).toThrow(expect.objectContaining({ hint: 'Did you mean "ubuntu"?' }));
});

test.each([
  ['docker.io/library/ubuntu:latest', 'ubuntu:latest'],
  ['docker.io/owner/name:1', 'owner/name:1'],
  ['ghcr.io/owner/name:1', 'ghcr.io/owner/name:1'],
  ['base', 'base'],
])('%s is familiar as %s', (canonical, familiar) => {
  expect(familiarName(canonical)).toBe(familiar);
});
