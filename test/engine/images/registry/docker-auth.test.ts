import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { dockerCredentials } from '../../../../src/engine/images/registry/docker-auth.ts';
import { BangerError } from '../../../../src/errors.ts';
import type { Exec } from '../../../../src/host/exec.ts';

let directory: string;
beforeEach(() => void (directory = mkdtempSync(join(tmpdir(), 'banger-auth-'))));
afterEach(() => rmSync(directory, { recursive: true }));

const base64 = (text: string): string => Buffer.from(text).toString('base64');

function find(registry: string, config: unknown, answer: string | Error = '', exitCode = 0) {
  writeFileSync(join(directory, 'config.json'), typeof config === 'string' ? config : JSON.stringify(config));
  const commands: string[] = [];
  const logged: string[] = [];
  const exec: Exec = async (argv, options) => {
    commands.push(`${argv.join(' ')} <${String(options?.input)}`);
    if (answer instanceof Error) throw answer;
    return { exitCode, stdout: Buffer.from(answer), stderr: '' };
  };
  const credentials = dockerCredentials({
    env: { DOCKER_CONFIG: directory },
    home: '/nowhere',
    exec,
    log: (_level, message) => void logged.push(message),
  });
  return { found: credentials(registry, new AbortController().signal), commands, logged };
}

test.each([
  ['ghcr.io', { 'ghcr.io': { auth: base64('me:pass:word') } }],
  ['docker.io', { 'https://index.docker.io/v1/': { auth: base64('me:pass:word\0') } }],
  ['localhost:5000', { 'http://localhost:5000/v2/': { username: 'me', password: 'pass:word' } }],
])('a login for %s is found in the config file', async (registry, auths) => {
  expect(await find(registry, { auths }).found).toEqual({
    kind: 'password',
    username: 'me',
    password: 'pass:word',
  });
});

test.each([
  { auths: null },
  { auths: { 'ghcr.io': null } },
  { auths: { 'ghcr.io': { auth: null, username: null } }, credsStore: null },
  { credHelpers: null },
  { credHelpers: { 'ghcr.io': null } },
])('%j has no login: null is what is not there', async (config) => {
  expect(await find('ghcr.io', config).found).toBeUndefined();
});

test('a login for another host is not used', async () => {
  const auths = {
    'evil.example/ghcr.io': { auth: base64('a:b') },
    'ghcr.io.example': { auth: base64('a:b') },
  };
  expect(await find('ghcr.io', { auths }).found).toBeUndefined();
});

test('an identity token comes before a password', async () => {
  const auths = { 'ghcr.io': { auth: base64('me:x'), identitytoken: 'refresh' } };
  expect(await find('ghcr.io', { auths }).found).toEqual({ kind: 'identity-token', token: 'refresh' });
});

test('the helper of a registry comes before the one for all', async () => {
  const config = { credsStore: 'desktop', credHelpers: { 'ghcr.io': 'gh' } };
  const answer = JSON.stringify({ ServerURL: 'x', Username: 'me', Secret: 'secret' });
  const { found, commands } = find('ghcr.io', config, answer);
  expect(await found).toEqual({ kind: 'password', username: 'me', password: 'secret' });
  expect(commands).toEqual(['docker-credential-gh get <ghcr.io']);
});

test("a helper's identity token is one", async () => {
  const answer = JSON.stringify({ Username: '<token>', Secret: 'refresh' });
  const { found, commands } = find('docker.io', { credsStore: 'pass' }, answer);
  expect(await found).toEqual({ kind: 'identity-token', token: 'refresh' });
  expect(commands).toEqual(['docker-credential-pass get <https://index.docker.io/v1/']);
});

test.each(['../../tmp/evil', 'a b', 'x;reboot', 'UP', ''])(
  'a helper named "%s" is never run',
  async (helper) => {
    const { found, commands } = find('ghcr.io', { credHelpers: { 'ghcr.io': helper } });
    expect(await found).toBeUndefined();
    expect(commands).toEqual([]);
  },
);

test('a helper that is missing, fails or has nothing means no login', async () => {
  const missing = new BangerError('host_unsupported', 'not installed');
  const { found, logged } = find('ghcr.io', { credsStore: 'desktop' }, missing);
  expect(await found).toBeUndefined();
  expect(logged).toEqual(['credential helper did not answer']);
  expect(await find('ghcr.io', { credsStore: 'x' }, 'credentials not found', 1).found).toBeUndefined();
  expect(await find('ghcr.io', { credsStore: 'x' }, 'not json').found).toBeUndefined();
});

test('no config file means no login, a broken one is named', async () => {
  const credentials = dockerCredentials({
    env: {},
    home: directory,
    exec: () => Promise.reject(new Error('not asked')),
    log: () => undefined,
  });
  expect(await credentials('ghcr.io', new AbortController().signal)).toBeUndefined();
  await expect(find('ghcr.io', '{"auths":').found).rejects.toThrow('is not a docker configuration');
});
