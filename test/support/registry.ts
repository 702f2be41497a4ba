import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';

/** One request as the registry saw it. */
export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

/** Answers a request in the registry's place; true when it did. */
export type Misbehaviour = (request: SeenRequest, response: ServerResponse) => boolean | Promise<boolean>;

/** A registry on loopback that serves what it was given, and lies as it was told. */
export interface FakeRegistry extends AsyncDisposable {
  /** `127.0.0.1:PORT` */
  readonly host: string;
  readonly requests: SeenRequest[];
  readonly blobs: Map<string, Buffer>;
  /** By `repository:tag` and `repository@digest` */
  readonly manifests: Map<string, { readonly bytes: Buffer; readonly mediaType: string }>;
  /** Asked first, the one added last before the others */
  misbehave(misbehaviour: Misbehaviour): void;
  /** Stores a manifest, or any other JSON in its place, under a tag and its digest */
  putManifest(repository: string, tag: string, document: unknown, mediaType?: string): string;
  putBlob(bytes: Buffer | string): string;
}

export const mediaTypes = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar',
} as const;

/** With `tls` it speaks HTTPS; with `clientCa` only to those who have a certificate of that authority. */
export async function startRegistry(
  options: {
    readonly tls?: { readonly cert: string; readonly key: string };
    /** PEM */
    readonly clientCa?: string;
  } = {},
): Promise<FakeRegistry> {
  const requests: SeenRequest[] = [];
  const blobs = new Map<string, Buffer>();
  const manifests = new Map<string, { bytes: Buffer; mediaType: string }>();
  const misbehaviours: Misbehaviour[] = [];
  const listener = (request: IncomingMessage, response: ServerResponse): void =>
    void handle(request, response).catch(() => response.destroy());
  const { tls, clientCa } = options;
  const client = clientCa === undefined ? {} : { ca: clientCa, requestCert: true, rejectUnauthorized: true };
  const server = tls ? createTlsServer({ ...tls, ...client }, listener) : createServer(listener);

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const { method = '', url = '', headers } = request;
    const seen = { method, path: url, headers, body: Buffer.concat(chunks).toString() };
    requests.push(seen);
    for (const misbehaviour of misbehaviours.toReversed()) if (await misbehaviour(seen, response)) return;
    serve(seen, response);
  }

  function serve({ path, headers }: SeenRequest, response: ServerResponse): void {
    const [, repository, kind, name] = /^\/v2\/(.+)\/(manifests|blobs)\/(.+)$/.exec(path) ?? [];
    if (path === '/v2/') return void response.end();
    const manifest = manifests.get(`${repository}${name?.startsWith('sha256:') ? '@' : ':'}${name}`);
    const bytes = kind === 'manifests' ? manifest?.bytes : blobs.get(name ?? '');
    if (!bytes) return void response.writeHead(404).end('{"errors":[{"code":"MANIFEST_UNKNOWN"}]}');
    if (manifest && kind === 'manifests') response.setHeader('content-type', manifest.mediaType);
    const from = Number(/^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1] ?? 0);
    if (from > 0) {
      response.writeHead(206, { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` });
    }
    response.end(bytes.subarray(from));
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    host: `127.0.0.1:${port}`,
    requests,
    blobs,
    manifests,
    misbehave: (misbehaviour) => void misbehaviours.push(misbehaviour),
    putManifest(repository, tag, document, mediaType = mediaTypes.manifest) {
      const bytes = Buffer.isBuffer(document) ? document : Buffer.from(JSON.stringify(document));
      manifests.set(`${repository}:${tag}`, { bytes, mediaType });
      manifests.set(`${repository}@${sha256(bytes)}`, { bytes, mediaType });
      return sha256(bytes);
    },
    putBlob(content) {
      const bytes = Buffer.from(content);
      blobs.set(sha256(bytes), bytes);
      return sha256(bytes);
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export interface FakeImage {
  readonly id: string;
  readonly digest: string;
  readonly manifest: ImageManifest;
  readonly layerDigests: readonly string[];
}

interface ImageManifest {
  readonly schemaVersion: 2;
  readonly mediaType: string;
  readonly config: { readonly mediaType: string; readonly digest: string; readonly size: number };
  readonly layers: readonly { readonly mediaType: string; readonly digest: string; readonly size: number }[];
}

/** Puts an image with these uncompressed layers into a registry. */
export function putImage(
  registry: FakeRegistry,
  repository: string,
  options: {
    tag?: string;
    layers?: readonly (string | Buffer)[];
    architecture?: string;
    env?: readonly string[];
  } = {},
): FakeImage {
  const { tag = 'latest', layers = ['layer one', 'layer two'], env = [] } = options;
  const layerDigests = layers.map((layer) => registry.putBlob(layer));
  const config = JSON.stringify({
    os: 'linux',
    architecture: options.architecture ?? (process.arch === 'x64' ? 'amd64' : process.arch),
    config: { Env: env, Cmd: ['/bin/sh'] },
    rootfs: { type: 'layers', diff_ids: layerDigests },
  });
  const configDigest = registry.putBlob(config);
  const manifest: ImageManifest = {
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    config: { mediaType: mediaTypes.config, digest: configDigest, size: Buffer.byteLength(config) },
    layers: layers.map((layer, index) => ({
      mediaType: mediaTypes.layer,
      digest: layerDigests[index]!,
      size: Buffer.byteLength(layer),
    })),
  };
  const digest = registry.putManifest(repository, tag, manifest);
  return { id: configDigest.slice('sha256:'.length), digest, manifest, layerDigests };
}

/** Answers every request for a path with one status and headers. */
export function answer(
  path: RegExp,
  status: number,
  headers: Readonly<Record<string, string>> = {},
  body: string | Buffer = '',
): Misbehaviour {
  return (request, response) => {
    if (!path.test(request.path)) return false;
    response.writeHead(status, headers).end(body);
    return true;
  };
}

/** Misbehaves the first `count` times it would. */
export function times(count: number, misbehaviour: Misbehaviour): Misbehaviour {
  let left = count;
  return async (request, response) => left > 0 && (await misbehaviour(request, response)) && left-- > 0;
}

export function sha256(bytes: Buffer | string): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}
