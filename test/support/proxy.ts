import { createServer } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';

/** A proxy on loopback that leads every `CONNECT` to one place. */
export interface FakeProxy extends AsyncDisposable {
  readonly host: string;
  /** What clients wanted to be connected to */
  readonly wanted: string[];
  readonly logins: (string | undefined)[];
}

/** With `login`, only those who come with it are let through. */
export async function startProxy(target: string, login?: string): Promise<FakeProxy> {
  const wanted: string[] = [];
  const logins: (string | undefined)[] = [];
  const open = new Set<Duplex>();
  const server = createServer((_, response) => void response.writeHead(400).end());
  server.on('connect', (request, client: Duplex) => {
    open.add(client);
    client.on('error', () => undefined);
    wanted.push(request.url ?? '');
    const given = request.headers['proxy-authorization'];
    logins.push(given);
    if (login !== undefined && given !== `Basic ${Buffer.from(login).toString('base64')}`) {
      return void client.end('HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n');
    }
    const upstream = connect(Number(target.split(':')[1]), '127.0.0.1', () => {
      client.write('HTTP/1.1 200 Connected\r\n\r\n');
      upstream.pipe(client).pipe(upstream);
    });
    upstream.on('error', () => client.destroy());
    open.add(upstream);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    wanted,
    logins,
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
