import { createServer, request as httpRequest, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { connect, type AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';

/** A proxy on loopback that leads every `CONNECT`, and every request for a whole address, to one place. */
export interface FakeProxy extends AsyncDisposable {
  readonly host: string;
  /** What clients wanted to be connected to: `HOST:PORT`, or `http://HOST` when they asked in plain */
  readonly wanted: string[];
  readonly logins: (string | undefined)[];
}

/** With `login`, only those who come with it are let through. With `tls`, it is spoken to over TLS. */
export async function startProxy(
  target: string,
  login?: string,
  tls?: { readonly cert: string; readonly key: string },
): Promise<FakeProxy> {
  const wanted: string[] = [];
  const logins: (string | undefined)[] = [];
  const open = new Set<Duplex>();
  /** Notes what is wanted, and says whether it may be had. */
  const lets = (what: string, given: string | undefined): boolean => {
    wanted.push(what);
    logins.push(given);
    return login === undefined || given === `Basic ${Buffer.from(login).toString('base64')}`;
  };
  const answer: RequestListener = (request, response) => {
    const url = URL.parse(request.url ?? '');
    if (url?.protocol !== 'http:') return void response.writeHead(400).end();
    if (!lets(url.origin, request.headers['proxy-authorization'])) return void response.writeHead(407).end();
    const headers = { ...request.headers };
    delete headers['proxy-authorization'];
    const path = url.pathname + url.search;
    const upstream = httpRequest(`http://${target}${path}`, { method: request.method, headers }, (found) => {
      response.writeHead(found.statusCode ?? 500, found.headers);
      found.pipe(response);
    });
    upstream.on('error', () => response.writeHead(502).end());
    request.pipe(upstream);
  };
  const server = tls ? createTlsServer({ ...tls }, answer) : createServer(answer);
  server.on('connect', (request, client: Duplex) => {
    open.add(client);
    client.on('error', () => undefined);
    if (!lets(request.url ?? '', request.headers['proxy-authorization'])) {
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
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
