import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
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

export interface RegistryServerOptions {
  /** PEM files; without them it speaks plain HTTP */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** `user:password` that everybody must come with, and its line for htpasswd */
  readonly login?: { readonly text: string; readonly htpasswd: string };
  /** A new file that gets a line for each request, in the combined log format */
  readonly accessLog?: string;
}

export async function startRegistryServer(options: RegistryServerOptions = {}): Promise<RegistryServer> {
  const { tls, login, accessLog } = options;
  const directory = mkdtempSync(join(tmpdir(), 'bt-registry-'));
  const host = `127.0.0.1:${await freePort()}`;
  const config = join(directory, 'config.yml');
  writeFileSync(
    config,
    [
      'version: 0.1',
      `log: { level: error, accesslog: { disabled: ${accessLog === undefined} } }`,
      `storage: { filesystem: { rootdirectory: "${directory}/data" } }`,
      tls
        ? `http: { addr: "${host}", tls: { certificate: "${tls.cert}", key: "${tls.key}" } }`
        : `http: { addr: "${host}" }`,
      ...(login ? [`auth: { htpasswd: { realm: test, path: "${directory}/htpasswd" } }`] : []),
    ].join('\n'),
  );
  if (login) writeFileSync(join(directory, 'htpasswd'), `${login.htpasswd}\n`);
  const log = accessLog === undefined ? 'ignore' : openSync(accessLog, 'wx');
  const child = spawn('docker-registry', ['serve', config], { stdio: ['ignore', log, 'ignore'] });
  if (typeof log === 'number') closeSync(log);
  await until('docker-registry answers', () => answers(host));
  return {
    host,
    async push(layout, name) {
      const target = `docker://${host}/${name}`;
      await program('skopeo', [
        '--insecure-policy',
        'copy',
        '--dest-tls-verify=false',
        ...(login ? ['--dest-creds', login.text] : []),
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

async function answers(host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const [address, port] = host.split(':');
    const socket = connect(Number(port), address);
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

/** A port that nobody listens on. Somebody may take it before it is used; on loopback that is rare enough. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}
