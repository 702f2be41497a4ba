import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { pullImage } from '../../../../src/engine/images/pull-image.ts';
import { hostCertificates } from '../../../../src/engine/images/registry/host-certificates.ts';
import { proxyFor } from '../../../../src/engine/images/registry/proxy-choice.ts';
import { createTransport } from '../../../../src/engine/images/registry/transport.ts';
import { parseConfig } from '../../../../src/state/config.ts';
import { makeCertificates, type TestCertificates } from '../../../support/certificates.ts';
import { imageContext, recordedOperation } from '../../../support/image-context.ts';
import { startProxy } from '../../../support/proxy.ts';
import { putImage, startRegistry } from '../../../support/registry.ts';

let certificates: TestCertificates;
let directory: string;
beforeAll(() => {
  certificates = makeCertificates('DNS:registry.test,IP:127.0.0.1');
  directory = mkdtempSync(join(tmpdir(), 'bt-certs-'));
});
afterAll(() => {
  certificates[Symbol.dispose]();
  rmSync(directory, { recursive: true });
});

async function pull(reference: string, options: { config?: string; env?: Record<string, string> } = {}) {
  const registries = parseConfig(options.config ?? '', 'config.toml').registries;
  using context = imageContext({
    config: options.config,
    tools: {
      transport: createTransport({
        env: options.env ?? {},
        certificates: hostCertificates(() => registries, [directory]),
      }),
    },
  });
  return await pullImage(context, reference, recordedOperation());
}

test('a certificate of an unknown authority is refused, with the way to allow it', async () => {
  await using registry = await startRegistry({ tls: certificates.pem });
  await using proxy = await startProxy(registry.host);
  const env = { https_proxy: `http://${proxy.host}` };
  putImage(registry, 'app');
  await expect(pull('registry.test/app', { env })).rejects.toMatchObject({
    message: expect.stringContaining('The certificate of registry "registry.test" is not trusted'),
    hint: expect.stringContaining('ca = '),
  });
  expect(registry.requests).toEqual([]);
});

test.each([
  ['the CA that the configuration names', 'config'],
  ['the CA where docker keeps it', 'certs.d'],
  ['the CA in SSL_CERT_FILE', 'env'],
] as const)('%s is trusted, and the proxy is used with its login', async (_, where) => {
  await using registry = await startRegistry({ tls: certificates.pem });
  await using proxy = await startProxy(registry.host, 'me:pass word');
  const { id } = putImage(registry, 'app');
  const env: Record<string, string> = { HTTPS_PROXY: `http://me:pass%20word@${proxy.host}` };
  if (where === 'env') env['SSL_CERT_FILE'] = certificates.ca;
  if (where === 'certs.d') {
    mkdirSync(join(directory, 'registry.test'));
    copyFileSync(certificates.ca, join(directory, 'registry.test/ca.crt'));
  }
  const config = where === 'config' ? `[registries."registry.test"]\nca = "${certificates.ca}"` : '';
  const image = await pull('registry.test/app', { env, config });
  rmSync(join(directory, 'registry.test'), { recursive: true, force: true });
  expect(image.id).toBe(id);
  expect(new Set(proxy.wanted)).toEqual(new Set(['registry.test:443']));
});

test('a proxy that wants another login is told, without showing ours', async () => {
  await using proxy = await startProxy('127.0.0.1:1', 'me:right');
  const env = { https_proxy: `http://me:wrong-secret@${proxy.host}` };
  const error: unknown = await pull('registry.test/app', { env }).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({
    message: 'The proxy on the way to registry "registry.test" wants a login',
    hint: expect.stringContaining('https_proxy'),
  });
  expect(JSON.stringify(error) + String(error)).not.toContain('wrong-secret');
});

test('a CA that is named for a registry on loopback is checked', async () => {
  using others = makeCertificates('IP:127.0.0.1');
  await using registry = await startRegistry({ tls: certificates.pem });
  putImage(registry, 'app');
  const withCa = (ca: string): string => `[registries."${registry.host}"]\nca = "${ca}"`;
  await pull(`${registry.host}/app`, { config: withCa(certificates.ca) });
  await expect(pull(`${registry.host}/app`, { config: withCa(others.ca) })).rejects.toThrow('is not trusted');
  await expect(pull(`${registry.host}/app`, { config: withCa('/nowhere/ca.pem') })).rejects.toThrow(
    'cannot be read',
  );
  // Without one, anything goes there, as for docker.
  await pull(`${registry.host}/app`);
});

test('a registry that asks who we are gets the certificate from where docker has it', async () => {
  using clients = makeCertificates('DNS:client.test');
  await using registry = await startRegistry({
    tls: certificates.pem,
    clientCa: readFileSync(clients.ca, 'utf8'),
  });
  await using proxy = await startProxy(registry.host);
  const env = { https_proxy: `http://${proxy.host}`, SSL_CERT_FILE: certificates.ca };
  const { id } = putImage(registry, 'app');
  for (const [reference, host] of [
    ['registry.test/app', 'registry.test'],
    [`${registry.host}/app`, registry.host],
  ] as const) {
    await expect(pull(reference, { env })).rejects.toThrow(`The connection to registry "${host}" broke`);
    expect(registry.requests).toEqual([]);
    mkdirSync(join(directory, host));
    copyFileSync(clients.cert, join(directory, host, 'client.cert'));
    copyFileSync(clients.key, join(directory, host, 'client.key'));
    const image = await pull(reference, { env });
    expect(image.id).toBe(id);
    rmSync(join(directory, host), { recursive: true });
    registry.requests.length = 0;
  }
});

const insecure = '[registries."registry.test"]\ninsecure = true';

test('a registry marked insecure is reached through the proxy, whatever its certificate', async () => {
  await using registry = await startRegistry({ tls: certificates.pem });
  await using proxy = await startProxy(registry.host, 'me:secret');
  const { id } = putImage(registry, 'app');
  const env = { https_proxy: `http://me:secret@${proxy.host}` };
  const image = await pull('registry.test/app', { env, config: insecure });
  expect(image.id).toBe(id);
  expect(new Set(proxy.wanted)).toEqual(new Set(['registry.test:443']));
});

test('one without TLS is reached through the proxy for plain HTTP, which need not tunnel', async () => {
  await using registry = await startRegistry();
  await using plain = await startProxy(registry.host, 'me:secret');
  await using secure = await startProxy(registry.host);
  const { id } = putImage(registry, 'app');
  const env = { http_proxy: `http://me:secret@${plain.host}`, https_proxy: `http://${secure.host}` };
  const image = await pull('registry.test/app', { env, config: insecure });
  expect(image.id).toBe(id);
  expect(new Set(plain.wanted)).toEqual(new Set(['http://registry.test']));
  expect(new Set(secure.wanted)).toEqual(new Set(['registry.test:443']));
});

test('so is a mirror whose address says http', async () => {
  await using registry = await startRegistry();
  await using proxy = await startProxy(registry.host);
  const { id } = putImage(registry, 'app');
  const config = '[registries."elsewhere.test"]\nmirrors = ["http://registry.test"]';
  const image = await pull('elsewhere.test/app', { env: { http_proxy: proxy.host }, config });
  expect(image.id).toBe(id);
  expect(new Set(proxy.wanted)).toEqual(new Set(['http://registry.test']));
});

test('a proxy that wants another login is told for those, too', async () => {
  await using proxy = await startProxy('127.0.0.1:1', 'me:right');
  const wrong = `http://me:wrong-secret@${proxy.host}`;
  const env = { http_proxy: wrong, https_proxy: wrong };
  const error: unknown = await pull('registry.test/app', { env, config: insecure }).catch(
    (thrown: unknown) => thrown,
  );
  expect(error).toMatchObject({
    message: 'The proxy on the way to registry "registry.test" wants a login',
    hint: expect.stringContaining('http_proxy'),
  });
  expect(JSON.stringify(error) + String(error)).not.toContain('wrong-secret');
  expect(new Set(proxy.wanted)).toEqual(new Set(['registry.test:443', 'http://registry.test']));
});

test('nobody said that the certificate of the proxy does not matter', async () => {
  await using registry = await startRegistry({ tls: certificates.pem });
  await using proxy = await startProxy(registry.host, undefined, certificates.pem);
  const { id } = putImage(registry, 'app');
  const env = { https_proxy: `https://${proxy.host}` };
  await expect(pull('registry.test/app', { env, config: insecure })).rejects.toMatchObject({
    message: expect.stringContaining('The certificate of the proxy on the way to registry "registry.test"'),
    hint: expect.stringContaining('SSL_CERT_FILE'),
  });
  expect(registry.requests).toEqual([]);
  const image = await pull('registry.test/app', {
    env: { ...env, SSL_CERT_FILE: certificates.ca },
    config: insecure,
  });
  expect(image.id).toBe(id);
});

const env = {
  https_proxy: 'http://proxy:1',
  HTTP_PROXY: 'plain:2',
  no_proxy: 'direct.example, .below.example,10.0.0.0/8 192.168.1.1,fd00::/8,port.example:8443,*.star.example',
};
test.each([
  ['https://registry.example', 'http://proxy:1/'],
  ['http://registry.example', 'http://plain:2/'],
  ['https://direct.example', undefined],
  ['https://a.direct.example', undefined],
  ['https://indirect.example', 'http://proxy:1/'],
  ['https://a.below.example:5000', undefined],
  ['https://a.star.example', undefined],
  ['https://10.200.3.4:5000', undefined],
  ['https://11.0.0.1', 'http://proxy:1/'],
  ['https://192.168.1.1', undefined],
  ['https://192.168.1.11', 'http://proxy:1/'],
  ['https://[fd00::1]:5000', undefined],
  ['https://[fe00::1]', 'http://proxy:1/'],
  ['https://port.example:8443', undefined],
  ['https://port.example', 'http://proxy:1/'],
  ['http://localhost:5000', undefined],
  ['http://127.0.0.1:5000', undefined],
])('%s is reached through %s', (url, expected) => {
  expect(proxyFor(new URL(url), env)?.href).toBe(expected);
});

test('no_proxy="*" means none, and a proxy that is none is an error without its text', () => {
  const url = new URL('https://registry.example');
  expect(proxyFor(url, { ...env, no_proxy: '*' })).toBeUndefined();
  expect(() => proxyFor(url, { https_proxy: 'ftp://me:secret@x' })).toThrow(
    /^(?!.*secret).*is no proxy address/,
  );
});
