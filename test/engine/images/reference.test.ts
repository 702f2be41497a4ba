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
  // What distribution's grammar allows, part by part.
  ['test:5000/repo', 'test:5000/repo:latest'],
  ['test:5000/repo:tag', 'test:5000/repo:tag'],
  ['name.with.dots', 'docker.io/library/name.with.dots:latest'],
  ['foo/foo_bar.com:8080', 'docker.io/foo/foo_bar.com:8080'],
  ['sub-dom.name.com/bar/baz/quux:t', 'sub-dom.name.com/bar/baz/quux:t'],
  ['xn--n3h.com/myimage', 'xn--n3h.com/myimage:latest'],
  ['LOCAL/name', 'LOCAL/name:latest'],
  ['[2001:db8::1]/repo', '[2001:db8::1]/repo:latest'],
  ['0/0', 'docker.io/0/0:latest'],
  ['a.b_c__d-e---f', 'docker.io/library/a.b_c__d-e---f:latest'],
  ['x:_T', 'docker.io/library/x:_T'],
  [`x:${'t'.repeat(128)}`, `docker.io/library/x:${'t'.repeat(128)}`],
  [`${'a'.repeat(64)}:tag`.slice(1), `docker.io/library/${'a'.repeat(63)}:tag`],
  [`host.io/${'a'.repeat(247)}`, `host.io/${'a'.repeat(247)}:latest`],
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
  // What it does not.
  ['a___b', 'not a repository name'],
  ['a._b', 'not a repository name'],
  ['a_-b', 'not a repository name'],
  ['_a', 'not a repository name'],
  ['a_', 'not a repository name'],
  ['a.', 'not a repository name'],
  ['a/', 'not a repository name'],
  ['/a', 'it is a path'],
  ['./a.tar.zst', 'it is a path'],
  ['../a', 'it is a path'],
  ['.../a', 'not a registry host'],
  ['host.io/', 'not a repository name'],
  ['aa/asdf$$^/aa', 'not a repository name'],
  ['é/a', 'not a repository name'],
  ['-host.io/a', 'not a registry host'],
  ['host-.io/a', 'not a registry host'],
  ['host..io/a', 'not a registry host'],
  ['host.io:/a', 'not a registry host'],
  ['host.io:x/a', 'not a registry host'],
  ['[fe80::1%eth0]:5000/a', 'not a registry host'],
  ['[::1/a', 'not a registry host'],
  ['2001:db8::1/a', 'not a registry host'],
  ['ubuntu:.x', 'not a tag'],
  ['ubuntu:a b', 'not a tag'],
  ['ubuntu@', 'not a SHA-256 digest'],
  [`ubuntu@${digest.toUpperCase()}`, 'not a SHA-256 digest'],
  [`ubuntu@${digest}@${digest}`, 'not a SHA-256 digest'],
  [`host.io/${'a'.repeat(248)}`, 'longer than 255'],
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

test.each([
  ['Ubuntu', 'ubuntu'],
  ['docker.io/Ubuntu:24.04', 'docker.io/ubuntu:24.04'],
  // A tag is not the same in small letters, and neither is a registry's name another.
  ['Team.example:5000/Team/App:V1-RC', 'Team.example:5000/team/app:V1-RC'],
  [`App@${digest}`, `app@${digest}`],
])('"%s" gets the hint that would have worked: %s', (text, meant) => {
  expect(canonicalName(parseReference(meant))).toBeTruthy();
  expect(() => parseReference(text)).toThrow(expect.objectContaining({ hint: `Did you mean "${meant}"?` }));
});

test.each(['My Image', 'Ünicode', 'UBUNTU@SHA256:aa', 'App:a b', 'App_', 'a b'])(
  '"%s" gets no hint that would not have worked',
  (text) => {
    expect(() => parseReference(text)).toThrow(
      expect.objectContaining({ hint: expect.stringContaining('Names are lowercase letters') }),
    );
  },
);

test.each([
  ['docker.io/library/ubuntu:latest', 'ubuntu:latest'],
  ['docker.io/owner/name:1', 'owner/name:1'],
  ['ghcr.io/owner/name:1', 'ghcr.io/owner/name:1'],
  ['base', 'base'],
])('%s is familiar as %s', (canonical, familiar) => {
  expect(familiarName(canonical)).toBe(familiar);
});
