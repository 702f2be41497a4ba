import { expect, test } from 'vitest';
import { pullImage } from '../../../../src/engine/images/pull-image.ts';
import { imageContext, recordedOperation } from '../../../support/image-context.ts';
import { putImage, startRegistry, type FakeRegistry, type Misbehaviour } from '../../../support/registry.ts';

const basic = (text: string): string => `Basic ${Buffer.from(text).toString('base64')}`;

/** Wants this login for everything but the question whether it is there. */
function wants(login: string): Misbehaviour {
  return ({ path, headers }, response) => {
    if (path.endsWith('/v2/') || headers.authorization === basic(login)) return false;
    response.writeHead(401, { 'www-authenticate': 'Basic realm="test"' }).end();
    return true;
  };
}

/** Has its content below a path only, as proxies of several registries do. */
function livesBelow(prefix: string, registry: FakeRegistry): Misbehaviour {
  return ({ path }, response) => {
    const [, repository, , name = ''] =
      new RegExp(`^${prefix}/v2/(.+)/(manifests|blobs)/(.+)$`).exec(path) ?? [];
    const separator = name.startsWith('sha256:') ? '@' : ':';
    const bytes =
      registry.manifests.get(`${repository}${separator}${name}`)?.bytes ?? registry.blobs.get(name);
    response.writeHead(bytes ? 200 : 404).end(bytes);
    return true;
  };
}

const seenLogins = (registry: FakeRegistry): Set<string | undefined> =>
  new Set(registry.requests.flatMap(({ headers }) => headers.authorization ?? []));

test.each(['/hub', '/proxy/hub/'])('a mirror may live below a path: "%s"', async (path) => {
  await using registry = await startRegistry();
  await using mirror = await startRegistry();
  const { id } = putImage(mirror, 'team/app');
  const prefix = path.replace(/\/$/, '');
  mirror.misbehave(livesBelow(prefix, mirror));
  using context = imageContext({
    config: `[registries."${registry.host}"]\nmirrors = ["http://${mirror.host}${path}"]`,
  });
  const image = await pullImage(context, `${registry.host}/team/app`, recordedOperation());
  expect(image.id).toBe(id);
  expect(registry.requests).toEqual([]);
  expect(mirror.requests.filter((request) => !request.path.startsWith(`${prefix}/v2/`))).toEqual([]);
});

test('mirror and registry each get their own login, and never the other', async () => {
  await using registry = await startRegistry();
  await using mirror = await startRegistry();
  // The mirror has not all of it, so that both are asked.
  const { id, layerDigests } = putImage(registry, 'app');
  putImage(mirror, 'app');
  mirror.blobs.delete(layerDigests[1]!);
  registry.misbehave(wants('me:for-registry'));
  mirror.misbehave(wants('me:for-mirror'));
  const asked: string[] = [];
  using context = imageContext({
    config: `[registries."${registry.host}"]\nmirrors = ["http://${mirror.host}"]`,
    tools: {
      credentials: (host) => {
        asked.push(host);
        const password = host === mirror.host ? 'for-mirror' : 'for-registry';
        return Promise.resolve({ kind: 'password', username: 'me', password });
      },
    },
  });
  expect((await pullImage(context, `${registry.host}/app`, recordedOperation())).id).toBe(id);
  expect(new Set(asked)).toEqual(new Set([mirror.host, registry.host]));
  expect(seenLogins(mirror)).toEqual(new Set([basic('me:for-mirror')]));
  expect(seenLogins(registry)).toEqual(new Set([basic('me:for-registry')]));
});

test('a mirror without a login of its own gets none', async () => {
  await using registry = await startRegistry();
  await using mirror = await startRegistry();
  const { id } = putImage(registry, 'app');
  registry.misbehave(wants('me:for-registry'));
  mirror.misbehave(wants('anything:else'));
  using context = imageContext({
    config: `[registries."${registry.host}"]\nmirrors = ["http://${mirror.host}"]`,
    tools: {
      credentials: (host) =>
        Promise.resolve(
          host === registry.host ? { kind: 'password', username: 'me', password: 'for-registry' } : undefined,
        ),
    },
  });
  expect((await pullImage(context, `${registry.host}/app`, recordedOperation())).id).toBe(id);
  expect(mirror.requests.length).toBeGreaterThan(0);
  expect(seenLogins(mirror)).toEqual(new Set());
});
