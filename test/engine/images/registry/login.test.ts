import { expect, test } from 'vitest';
import type { Credentials } from '../../../../src/engine/images/registry/docker-auth.ts';
import { pullFrom } from '../../../support/pull-from.ts';
import { answer, putImage, startRegistry, type Misbehaviour } from '../../../support/registry.ts';

const login: Credentials = { kind: 'password', username: 'me', password: 'hunter2' };
const basic = `Basic ${Buffer.from('me:hunter2').toString('base64')}`;

/** Wants a bearer token "secret-token" for everything but the token itself. */
function wantsToken(realm: string): Misbehaviour {
  return ({ path, headers }, response) => {
    if (!path.startsWith('/v2/') || path === '/v2/') return false;
    if (headers.authorization === 'Bearer secret-token') return false;
    response
      .writeHead(401, {
        'www-authenticate': `Bearer realm="${realm}",service="test",scope="repository:*:push"`,
      })
      .end();
    return true;
  };
}
const givesToken = answer(/^\/token/, 200, {}, '{"token":"secret-token"}');

test('a bearer token is asked for with the login and for pulling this repository only', async () => {
  await using registry = await startRegistry();
  putImage(registry, 'app');
  registry.misbehave(wantsToken(`http://${registry.host}/token`));
  registry.misbehave(givesToken);
  await pullFrom(registry, { credentials: login });
  const asked = registry.requests.filter(({ path }) => path.startsWith('/token'));
  expect(asked).toHaveLength(1);
  expect(asked[0]?.path).toBe('/token?service=test&scope=repository%3Aapp%3Apull');
  expect(asked[0]?.headers.authorization).toBe(basic);
});

test('an identity token is exchanged by POST', async () => {
  await using registry = await startRegistry();
  putImage(registry, 'app');
  registry.misbehave(wantsToken(`http://${registry.host}/token`));
  registry.misbehave(answer(/^\/token/, 200, {}, '{"access_token":"secret-token"}'));
  await pullFrom(registry, { credentials: { kind: 'identity-token', token: 'refresh me' } });
  const asked = registry.requests.find(({ path }) => path.startsWith('/token'));
  expect(asked?.method).toBe('POST');
  expect(Object.fromEntries(new URLSearchParams(asked?.body))).toMatchObject({
    grant_type: 'refresh_token',
    refresh_token: 'refresh me',
    scope: 'repository:app:pull',
  });
});

test('a token service on another host gets no login', async () => {
  await using registry = await startRegistry();
  await using stranger = await startRegistry();
  putImage(registry, 'app');
  registry.misbehave(wantsToken(`http://${stranger.host.replace('127.0.0.1', 'localhost')}/token`));
  stranger.misbehave(givesToken);
  await pullFrom(registry, { credentials: login });
  expect(stranger.requests).toHaveLength(1);
  expect(stranger.requests[0]?.headers.authorization).toBeUndefined();
});

test('an image that a stranger would have needed the login for says whose it is', async () => {
  await using registry = await startRegistry();
  await using stranger = await startRegistry();
  putImage(registry, 'app');
  const realm = stranger.host.replace('127.0.0.1', 'localhost');
  registry.misbehave(wantsToken(`http://${realm}/token`));
  const told = {
    message: expect.stringContaining(`wants it to be sent to "${realm}", which may be somebody else's`),
    hint: expect.stringContaining(`docker pull ${registry.host}/app && docker save`),
  };
  stranger.misbehave(answer(/^\/token/, 401));
  await expect(pullFrom(registry, { credentials: login })).rejects.toMatchObject(told);
  stranger.misbehave(answer(/^\/token/, 200, {}, '{"token":"for-nobody"}'));
  await expect(pullFrom(registry, { credentials: login })).rejects.toMatchObject(told);
  await expect(pullFrom(registry)).rejects.toThrow('for everybody: it does not exist or needs a login');
});

test('basic logins work, and a refused one says how to log in without showing it', async () => {
  await using registry = await startRegistry();
  putImage(registry, 'app');
  registry.misbehave(({ path, headers }, response) => {
    if (path === '/v2/' || headers.authorization === basic) return false;
    response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end('hunter2 is wrong');
    return true;
  });
  await pullFrom(registry, { credentials: login });
  const wrong: Credentials = { kind: 'password', username: 'me', password: 'secret-pass' };
  for (const credentials of [wrong, undefined]) {
    const error: unknown = await pullFrom(registry, { credentials }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ hint: expect.stringContaining(`docker login ${registry.host}`) });
    expect(String(error)).not.toMatch(/secret-pass|hunter2/);
  }
});

test('a redirect to another host is followed without the login', async () => {
  await using registry = await startRegistry();
  await using storage = await startRegistry();
  const { layerDigests } = putImage(registry, 'app');
  putImage(storage, 'app');
  registry.misbehave(({ path, headers }, response) => {
    if (path === '/v2/' || headers.authorization === basic) return false;
    response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
    return true;
  });
  const location = `http://${storage.host}/v2/app/blobs/${layerDigests[0]}`;
  registry.misbehave(({ path, headers }, response) => {
    if (!path.endsWith(layerDigests[0]!) || headers.authorization !== basic) return false;
    response.writeHead(307, { location }).end();
    return true;
  });
  await pullFrom(registry, { credentials: login });
  expect(storage.requests).toHaveLength(1);
  expect(storage.requests[0]?.headers.authorization).toBeUndefined();
});

test('a login that got a token which does not do is not said to be missing', async () => {
  await using registry = await startRegistry();
  putImage(registry, 'app');
  registry.misbehave(wantsToken(`http://${registry.host}/token`));
  registry.misbehave(answer(/^\/token/, 200, {}, '{"token":"of-somebody-else"}'));
  const name = `Registry "${registry.host}"`;
  await expect(pullFrom(registry, { credentials: login })).rejects.toMatchObject({
    message: `${name} does not give "app" to the stored login: it may not read it, or there is no such repository`,
    hint: `Check the name, or log in as somebody else: docker login ${registry.host}`,
  });
  await expect(pullFrom(registry)).rejects.toThrow('for everybody: it does not exist or needs a login');
});
