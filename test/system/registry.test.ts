import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ended, openBanger, until } from '../support/banger.ts';
import { makeCertificates, type TestCertificates } from '../support/certificates.ts';
import { scratchLayout } from '../support/images.ts';
import { putImage, startRegistry } from '../support/registry.ts';
import { startRegistryServer, type RegistryServer } from '../support/registry-server.ts';
import { tarOf } from '../support/tar-builder.ts';

const login = {
  text: 'me:geheim-secret',
  htpasswd: 'me:$2y$05$abcdefghijklmnopqrstuu9P55lpWJ9PncU37dUDcv94AKUlYwO9e',
};
const banger = openBanger();
let certificates: TestCertificates;
let registry: RegistryServer;
let image: string;

beforeAll(async () => {
  certificates = makeCertificates('IP:127.0.0.1');
  registry = await startRegistryServer({ tls: certificates, login });
  image = `${registry.host}/team/scratch:test`;
  await registry.push(await scratchLayout(), 'team/scratch:test');
});
afterAll(async () => {
  await banger[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  certificates[Symbol.dispose]();
});

/** The engine reads docker's configuration where the environment of its first client says. */
const environment = { DOCKER_CONFIG: join(banger.home, 'docker') };
const dockerConfig = (config: unknown): void => {
  mkdirSync(environment.DOCKER_CONFIG, { recursive: true });
  writeFileSync(join(environment.DOCKER_CONFIG, 'config.json'), JSON.stringify(config));
};
const base64 = (text: string): string => Buffer.from(text).toString('base64');

test('a registry with a login and its own CA is refused without either, and pulled from with both', async () => {
  const unknown = await banger.run(['image', 'pull', image], { env: environment });
  expect(unknown.code).toBe(1);
  expect(unknown.stderr).toContain(`docker login ${registry.host}`);

  dockerConfig({ auths: { [registry.host]: { auth: base64('me:wrong-secret') } } });
  const wrong = await banger.run(['image', 'pull', image], { env: environment });
  expect(wrong.stderr).toContain('did not accept the stored login');

  dockerConfig({ auths: { [registry.host]: { auth: base64(login.text) } } });
  const stranger = makeCertificates('IP:127.0.0.1');
  banger.configure(`[registries."${registry.host}"]\nca = "${stranger.ca}"\n`);
  const untrusted = await banger.run(['image', 'pull', image], { env: environment });
  stranger[Symbol.dispose]();
  expect(untrusted.stderr).toContain('is not trusted');

  banger.configure(`[registries."${registry.host}"]\nca = "${certificates.ca}"\n`);
  const { code, stdout, stderr } = await banger.run(['image', 'pull', '--json', image], { env: environment });
  expect(code, stderr).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ names: [image], source: 'pull' });

  const log = readFileSync(join(banger.home, 'state/engine.log'), 'utf8');
  for (const said of [unknown, wrong, untrusted].map((ran) => ran.stderr).concat(stdout, stderr, log)) {
    expect(said).not.toMatch(/geheim-secret|wrong-secret/);
    expect(said).not.toContain(base64(login.text));
  }
});

test('a credential helper is asked for the registry that wants a login', async () => {
  const bin = join(banger.home, 'helpers');
  mkdirSync(bin);
  const script = `#!/bin/sh\nread -r host; echo "$1 $host" >> ${bin}/asked\necho '{"Username":"me","Secret":"geheim-secret"}'\n`;
  writeFileSync(join(bin, 'docker-credential-test'), script, { mode: 0o755 });
  dockerConfig({ credHelpers: { [registry.host]: 'test' } });
  await banger.run(['engine', 'stop']);
  await banger.ok(['image', 'delete', image]);
  await banger.run(['engine', 'stop']);
  const env = { ...environment, PATH: `${bin}:${process.env['PATH']}` };
  await banger.ok(['image', 'pull', image], { env });
  expect(readFileSync(join(bin, 'asked'), 'utf8')).toBe(`get ${registry.host}\n`);
});

test('an engine killed during a download leaves what the next pull goes on with, and nothing else', async () => {
  await using slow = await startRegistry();
  const layer = tarOf([{ path: 'data', type: '0', data: randomBytes(3_000_000).toString('latin1') }]);
  const { layerDigests } = putImage(slow, 'app', { layers: [layer] });
  let isHeld = true;
  slow.misbehave(({ path }, response) => {
    if (!isHeld || !path.endsWith(layerDigests[0]!)) return false;
    response.writeHead(200, { 'content-length': layer.length });
    response.write(layer.subarray(0, 1_000_000));
    return true;
  });
  const blobs = join(banger.home, 'cache/blobs/sha256');
  const partial = `${layerDigests[0]!.slice(7)}.partial`;
  const pulling = banger.run(['image', 'pull', `${slow.host}/app`]);
  await until('a part of the layer is there', () => {
    const names = readdirSync(blobs);
    return names.includes(partial) && readFileSync(join(blobs, partial)).length === 1_000_000;
  });
  const pid = (await banger.enginePid())!;
  process.kill(pid, 'SIGKILL');
  await ended(pid);
  expect((await pulling).code).not.toBe(0);

  isHeld = false;
  expect(await banger.json<{ names: string[] }[]>('image', 'list')).not.toContainEqual(
    expect.objectContaining({ names: [`${slow.host}/app:latest`] }),
  );
  expect(readdirSync(join(banger.home, 'state/images'))).not.toContain('.staging');
  await banger.ok(['image', 'pull', `${slow.host}/app`]);
  expect(slow.requests.at(-1)?.headers.range).toBe('bytes=1000000-');
  expect(readdirSync(blobs)).not.toContain(partial);
});
