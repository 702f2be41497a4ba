import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ended, until } from './banger.ts';
import { program } from './images.ts';

/** Debian's docker-registry on a free port of the loopback, with a storage directory of its own. */
export interface RegistryServer extends AsyncDisposable {
  /** `127.0.0.1:PORT` */
  readonly host: string;
  /** Copies the image `test` of an OCI layout to a name such as `debian:test` */
  push(layout: string, name: string): Promise<void>;
}

export async function startRegistryServer(): Promise<RegistryServer> {
  const directory = mkdtempSync(join(tmpdir(), 'bt-registry-'));
  const host = `127.0.0.1:${await freePort()}`;
  const config = join(directory, 'config.yml');
  writeFileSync(
    config,
    [
      'version: 0.1',
      'log: { level: error, accesslog: { disabled: true } }',
      `storage: { filesystem: { rootdirectory: "${directory}/data" } }`,
      `http: { addr: "${host}" }`,
    ].join('\n'),
  );
  const child = spawn('docker-registry', ['serve', config], { stdio: 'ignore' });
  await until('docker-registry answers', () =>
    fetch(`http://${host}/v2/`).then(
      (response) => response.ok,
      () => false,
    ),
  );
  return {
    host,
    async push(layout, name) {
      const target = `docker://${host}/${name}`;
      await program('skopeo', [
        '--insecure-policy',
        'copy',
        '--dest-tls-verify=false',
        `oci:${layout}:test`,
        target,
      ]);
    },
    async [Symbol.asyncDispose]() {
      child.kill();
      await ended(child.pid!);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** A port that nobody listens on. Somebody may take it before it is used; on loopback that is rare enough. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}
