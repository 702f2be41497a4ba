import { globSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import { pullImage } from '../../../../src/engine/images/pull-image.ts';
import { createTransport } from '../../../../src/engine/images/registry/transport.ts';
import { imageContext, recordedOperation } from '../../../support/image-context.ts';
import { startProxy } from '../../../support/proxy.ts';
import { putImage, startRegistry, type Misbehaviour } from '../../../support/registry.ts';

const password = 'hunter-two';
const token = 'issued-token';
const proxyPassword = 'proxy-secret';
const secrets = [
  password,
  token,
  proxyPassword,
  Buffer.from(`me:${password}`).toString('base64'),
  Buffer.from(`me:${proxyPassword}`).toString('base64'),
];

/** Wants a token, gives one for the login, and tells in its errors all that it was sent. */
function indiscreet(service: string, accepts: boolean): Misbehaviour {
  return ({ path, headers }, response) => {
    if (path.startsWith('/token')) {
      response.end(JSON.stringify({ token }));
      return true;
    }
    if (path === '/v2/' || (accepts && headers.authorization === `Bearer ${token}`)) return false;
    const challenge = `Bearer realm="${service}/token",service="test"`;
    response.writeHead(401, { 'www-authenticate': challenge }).end(`not ${headers.authorization}`);
    return true;
  };
}

test.each([
  ['works', true],
  ['is refused', false],
])('a login that %s is in nothing that a pull says, logs or keeps', async (_, accepts) => {
  await using registry = await startRegistry();
  await using mirror = await startRegistry();
  await using proxy = await startProxy(mirror.host, `me:${proxyPassword}`);
  putImage(registry, 'app');
  registry.misbehave(indiscreet(`http://${registry.host}`, accepts));
  mirror.misbehave(indiscreet('http://mirror.test', false));
  const logged: unknown[] = [];
  using context = imageContext({
    config: `[registries."${registry.host}"]\nmirrors = ["http://mirror.test"]`,
    tools: {
      credentials: () => Promise.resolve({ kind: 'password', username: 'me', password }),
      transport: createTransport({
        env: { http_proxy: `http://me:${proxyPassword}@${proxy.host}` },
        certificates: () => undefined,
      }),
      log: (...line) => void logged.push(line),
    },
  });
  const operation = recordedOperation();
  const outcome: unknown = await pullImage(context, `${registry.host}/app`, operation).catch(
    (error: unknown) => error,
  );
  expect(outcome instanceof Error).toBe(!accepts);
  const sent = JSON.stringify([registry.requests, mirror.requests, proxy.logins]);
  for (const secret of [token, ...secrets.slice(3)]) expect(sent).toContain(secret);
  expect(logged).not.toEqual([]);

  const files = globSync(join(context.directory, '**'), { withFileTypes: false })
    .filter((path) => statSync(path).isFile())
    .map((path) => readFileSync(path, 'latin1'));
  const said = [inspect([outcome, logged, operation], { depth: 20 }), JSON.stringify(outcome), ...files];
  for (const secret of secrets) expect(said.join('\n')).not.toContain(secret);
});
