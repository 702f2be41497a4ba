import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { BangerError } from '../../../../src/errors.ts';
import { parseDownload } from '../../../../src/engine/images/downloads/download.ts';
import type { Downloads } from '../../../../src/engine/images/downloads/downloads.ts';
import {
  downloadsInThread,
  type DownloadThreadOptions,
} from '../../../../src/engine/images/downloads/downloads-in-thread.ts';
import type { ImagesContext } from '../../../../src/engine/images/image-services.ts';
import { pullImage } from '../../../../src/engine/images/pull-image.ts';
import { parseReference } from '../../../../src/engine/images/reference.ts';
import { blobPath, partialBlobPath } from '../../../../src/engine/images/registry/blob-files.ts';
import { threadScript, type ThreadScript } from '../../../../src/host/assets.ts';
import { parseConfig } from '../../../../src/state/config.ts';
import { imageContext, recordedOperation } from '../../../support/image-context.ts';
import { answer, putImage, startRegistry, type FakeRegistry } from '../../../support/registry.ts';
import { pointsOf, runWith } from '../../../support/vm-world.ts';

const kind = 'image.pull';
/** Of all tests here, which are about what it does, not about its start. */
let downloads: Downloads;
let docker: string;
let config = '';
const logged: string[] = [];

beforeAll(() => {
  docker = mkdtempSync(join(tmpdir(), 'bt-docker-'));
  // The thread has the environment of when it is started.
  vi.stubEnv('DOCKER_CONFIG', docker);
  downloads = inThread();
});
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(docker, { recursive: true });
});

function inThread(options: Partial<DownloadThreadOptions> = {}): Downloads {
  return downloadsInThread({
    script: () => threadScript('download'),
    registries: () => parseConfig(config, 'config.toml').registries,
    log: (_level, message) => void logged.push(message),
    ...options,
  });
}

function withConfig(text: string): void {
  config = text;
  onTestFinished(() => {
    config = '';
  });
}

function pull(context: ImagesContext, registry: FakeRegistry): Promise<string> {
  return pullImage(context, `${registry.host}/app`, recordedOperation()).then(({ id }) => id);
}

test('an image comes through a thread, with the login that docker has stored', async () => {
  await using registry = await startRegistry();
  using context = imageContext({ tools: { downloads } });
  const { id, layerDigests } = putImage(registry, 'app', { layers: ['one', 'x'.repeat(3_000_000)] });
  const auth = Buffer.from('me:secret').toString('base64');
  writeFileSync(join(docker, 'config.json'), JSON.stringify({ auths: { [registry.host]: { auth } } }));
  registry.misbehave(({ headers }, response) => {
    if (headers.authorization === `Basic ${auth}`) return false;
    response.writeHead(401, { 'www-authenticate': 'Basic realm="test"' }).end();
    return true;
  });
  const operation = recordedOperation();
  expect((await pullImage(context, `${registry.host}/app`, operation)).id).toBe(id);
  for (const digest of layerDigests) {
    const bytes = readFileSync(blobPath(context.layout.blobsDirectory, digest));
    expect(`sha256:${createHash('sha256').update(bytes).digest('hex')}`).toBe(digest);
  }
  const states = operation.progressed.flatMap(({ parts }) => parts ?? []).map(({ state }) => state);
  expect(states).toContain('downloading');
  expect(states).toContain('downloaded');
  writeFileSync(join(docker, 'config.json'), '{}');
  using stranger = imageContext({ tools: { downloads } });
  await expect(pull(stranger, registry)).rejects.toMatchObject({
    code: 'command_failed',
    message: `Registry "${registry.host}" does not have "app" for everybody: it does not exist or needs a login`,
    hint: `Check the name, or log in with: docker login ${registry.host}`,
  });
});

test('mirrors are those of the configuration as it is, and what is wrong with them ends one pull only', async () => {
  await using registry = await startRegistry();
  await using mirror = await startRegistry();
  using context = imageContext({ tools: { downloads } });
  const { id, layerDigests } = putImage(registry, 'app');
  putImage(mirror, 'app');
  mirror.misbehave(answer(new RegExp(layerDigests[0]!), 404));
  withConfig(`[registries."${registry.host}"]\nmirrors = ["ftp://${mirror.host}"]`);
  await expect(pull(context, registry)).rejects.toMatchObject({
    code: 'invalid_argument',
    message: 'A mirror in the configuration is not an http or https address',
    hint: expect.stringContaining('https://mirror.example.com'),
  });
  withConfig(`[registries."${registry.host}"]\nmirrors = ["http://${mirror.host}"]`);
  expect(await pull(context, registry)).toBe(id);
  expect(mirror.requests.some(({ path }) => path.endsWith('/manifests/latest'))).toBe(true);
  expect(logged).toContain('mirror did not help');
});

test('a pull passes the points that it passes without a thread, and fails there as it is told', async () => {
  await using registry = await startRegistry();
  putImage(registry, 'app', { layers: ['one'] });
  const points = async (tools: { downloads?: Downloads }): Promise<string[]> => {
    using context = imageContext({ tools });
    return await pointsOf(kind, (operation) => pullImage(context, `${registry.host}/app`, operation));
  };
  const expected = await points({});
  expect(expected).toContain(`${kind}/blob grown`);
  expect(await points({ downloads })).toEqual(expected);

  using context = imageContext({ tools: { downloads } });
  const failure = runWith(
    kind,
    (point) => (point === `${kind}/blob complete` ? 'enospc' : undefined),
    (operation) => pullImage(context, `${registry.host}/app`, operation),
  );
  await expect(failure).rejects.toThrow(/^The disk that holds ".*" is full$/);
  await pull(context, registry);
});

test('a download that is cancelled ends at once and is gone on with', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  const directory = context.layout.blobsDirectory;
  const layer = 'x'.repeat(100_000);
  const digest = registry.putBlob(layer);
  const blob = { digest, size: layer.length, mediaType: 'application/octet-stream' };
  let hangs = true;
  registry.misbehave(
    ({ path }, response) => hangs && path.endsWith(digest) && response.write(layer.slice(0, 50_000)),
  );
  using repository = downloads.repository(parseReference(`${registry.host}/app`));
  const abort = new AbortController();
  const reason = new BangerError('cancelled', 'Nobody wants it any more');
  const fetched = repository.blob({
    directory,
    blob,
    signal: abort.signal,
    onProgress: (_, done) => done === 50_000 && abort.abort(reason),
  });
  await expect(fetched).rejects.toBe(reason);
  expect(readFileSync(partialBlobPath(directory, digest), 'utf8')).toBe(layer.slice(0, 50_000));
  hangs = false;
  const { signal } = new AbortController();
  expect(readFileSync(await repository.blob({ directory, blob, signal }), 'utf8')).toBe(layer);
  expect(registry.requests.at(-1)?.headers.range).toBe('bytes=50000-');
});

test('a file comes through the thread, with its hash checked and its progress told', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  const bytes = Buffer.alloc(200_000, 'kernel ');
  const digest = registry.putBlob(bytes);
  const url = `http://${registry.host}/v2/app/blobs/${digest}`;
  const use = { pull: 'banger kernel pull', useFile: 'banger kernel import FILE', maxBytes: 1_000_000 };
  const path = join(context.directory, 'kernel');
  const operation = recordedOperation();
  await downloads.file(parseDownload(`${url}#sha256=${digest.slice(7)}`, use), path, operation);
  expect(readFileSync(path).equals(bytes)).toBe(true);
  expect(operation.progressed[0]).toMatchObject({ total: bytes.length, unit: 'bytes' });
  await expect(
    downloads.file(parseDownload(`${url}#sha256=${'0'.repeat(64)}`, use), `${path}2`, operation),
  ).rejects.toThrow(`has the SHA-256 ${digest.slice(7)}, not ${'0'.repeat(64)}`);
});

test.each([
  ['ends', 'process.exit(3)', 'The thread that downloads ended'],
  ['throws', 'throw new Error("boom")', 'The thread that downloads failed'],
])(
  'a thread that %s ends its pulls with an error, and the next pull has another',
  async (_, text, message) => {
    await using registry = await startRegistry();
    const { id } = putImage(registry, 'app');
    const scripts: ThreadScript[] = [
      {
        source: `require('node:worker_threads').parentPort.once('message', () => { ${text} })`,
        isText: true,
      },
      threadScript('download'),
    ];
    using context = imageContext({ tools: { downloads: inThread({ script: () => scripts.shift()! }) } });
    await expect(pull(context, registry)).rejects.toMatchObject({
      code: 'internal',
      message,
      hint: expect.stringContaining('Try again'),
    });
    expect(await pull(context, registry)).toBe(id);
    expect(scripts).toEqual([]);
  },
);

test('a thread is kept while something is open, and let go when nobody wants anything', async () => {
  await using registry = await startRegistry();
  putImage(registry, 'app');
  let started = 0;
  const script = (): ThreadScript => {
    started++;
    return threadScript('download');
  };
  const rested = inThread({ script, restMs: 1 });
  const { signal } = new AbortController();
  const reference = parseReference(`${registry.host}/app`);
  {
    using repository = rested.repository(reference);
    await repository.manifest('latest', signal);
    await sleep(20);
    await repository.manifest('latest', signal);
    expect(started).toBe(1);
  }
  await sleep(20);
  using repository = rested.repository(reference);
  await repository.manifest('latest', signal);
  expect(started).toBe(2);
});
