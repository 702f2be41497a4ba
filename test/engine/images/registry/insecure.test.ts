import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { pullImage } from '../../../../src/engine/images/pull-image.ts';
import { hostCertificates } from '../../../../src/engine/images/registry/host-certificates.ts';
import {
  ConnectionError,
  createTransport,
  type HttpResponse,
  type Transport,
} from '../../../../src/engine/images/registry/transport.ts';
import { imageContext, recordedOperation } from '../../../support/image-context.ts';
import { putImage, startRegistry, type FakeRegistry } from '../../../support/registry.ts';

const host = 'registry.test';
const marked = `[registries."${host}"]\ninsecure = true`;
const direct = createTransport({ env: {}, certificates: hostCertificates(() => ({}), []) });

/** What is at the two ports of a registry that is not on this host. */
interface Ports {
  readonly 80: 'nobody' | 'redirect' | FakeRegistry;
  readonly 443: 'nobody' | FakeRegistry;
}

/** A way to a host of that name: who is asked by which scheme, with which login, and whether anything is trusted. */
function wayTo(ports: Ports): { transport: Transport; asked: Set<string> } {
  const asked = new Set<string>();
  const transport: Transport = async (url, request) => {
    if (url.host !== host) throw new Error(`"${url.host}" is asked`);
    const login = request.headers['authorization'] === undefined ? 'no login' : 'login';
    asked.add(`${url.protocol} ${login}${request.isInsecure ? ', any certificate' : ''}`);
    const there = ports[url.protocol === 'http:' ? 80 : 443];
    if (there === 'nobody')
      throw new ConnectionError(`"${host}" refuses connections`, { isTransient: false, cause: undefined });
    if (there === 'redirect') return redirectTo(url.href.replace('http:', 'https:'));
    return direct(new URL(`http://${there.host}${url.pathname}`), request);
  };
  return { transport, asked };
}

function redirectTo(address: string): HttpResponse {
  return {
    status: 301,
    header: (name) => (name === 'location' ? address : undefined),
    body: Readable.from([]),
    giveBack: () => undefined,
    discard: () => Promise.resolve(),
  };
}

/** A registry that gives nothing away without a login. */
async function privateRegistry(): Promise<FakeRegistry & { readonly id: string }> {
  const registry = await startRegistry();
  const { id } = putImage(registry, 'app');
  registry.misbehave(({ headers }, response) => {
    if (headers.authorization !== undefined) return false;
    response.writeHead(401, { 'www-authenticate': 'Basic realm="test"' }).end();
    return true;
  });
  return { ...registry, id };
}

async function pull(transport: Transport, config: string): Promise<string> {
  using context = imageContext({
    config,
    tools: {
      transport,
      credentials: () => Promise.resolve({ kind: 'password', username: 'me', password: 'secret' }),
    },
  });
  return (await pullImage(context, `${host}/app`, recordedOperation())).id;
}

const overTls = ['https: no login, any certificate', 'https: login, any certificate'];

test.each(['nobody', 'redirect', 'the registry'] as const)(
  'a registry marked insecure that speaks TLS gets its login over TLS, whatever is at port 80: %s',
  async (plain) => {
    await using registry = await privateRegistry();
    const { transport, asked } = wayTo({ 80: plain === 'the registry' ? registry : plain, 443: registry });
    expect(await pull(transport, marked)).toBe(registry.id);
    expect([...asked]).toEqual(overTls);
  },
);

test('one that does not is spoken to in plain', async () => {
  await using registry = await privateRegistry();
  const { transport, asked } = wayTo({ 80: registry, 443: 'nobody' });
  expect(await pull(transport, marked)).toBe(registry.id);
  expect(asked).toContain('http: login, any certificate');
});

test('where nobody answers, it is said', async () => {
  const { transport } = wayTo({ 80: 'nobody', 443: 'nobody' });
  await expect(pull(transport, marked)).rejects.toThrow(`"${host}" refuses connections`);
});

test('a mirror is spoken to as its address says, and may lead to TLS on the same host', async () => {
  await using registry = await privateRegistry();
  const { transport, asked } = wayTo({ 80: 'redirect', 443: registry });
  const mirror = `[registries."elsewhere.test"]\nmirrors = ["http://${host}"]`;
  using context = imageContext({
    config: mirror,
    tools: {
      transport,
      credentials: () => Promise.resolve({ kind: 'password', username: 'me', password: 'secret' }),
    },
  });
  expect((await pullImage(context, 'elsewhere.test/app', recordedOperation())).id).toBe(registry.id);
  expect([...asked]).toEqual(['http: no login, any certificate', ...overTls, 'http: login, any certificate']);
});
