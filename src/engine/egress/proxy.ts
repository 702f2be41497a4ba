import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { giveUpAfter } from '../../host/patience.ts';
import { EgressError, maxConnections, type EgressGate } from './gate.ts';
import { serveSocks } from './socks.ts';
import { carry, nextChunk, whileThere } from './tunnel.ts';

/** A client says what it wants when it connects. */
const firstByteTimeoutMs = 60_000;
const socksVersion = 5;

/**
 * The proxy that a guest with rules reaches the outside by: HTTP with CONNECT and absolute URLs, and SOCKS 5, told
 * apart by their first byte. It serves streams that are brought to it, and listens nowhere itself.
 */
export class EgressProxy {
  readonly #gate: EgressGate;
  readonly #http: Server;
  readonly #open = new Set<Duplex>();
  /** How the VM is called in what blocked programs are told */
  readonly #nameOf: () => string;

  constructor(gate: EgressGate, nameOf: () => string) {
    this.#gate = gate;
    this.#nameOf = nameOf;
    this.#http = createServer((asked, answer) => {
      this.#forward(asked, answer).catch(() => answer.destroy());
    });
    this.#http.on('connect', (asked: IncomingMessage, guest: Duplex, head: Buffer) => {
      this.#tunnel(asked, guest, head).catch(() => guest.destroy());
    });
    this.#http.on('clientError', (_, guest) => guest.destroy());
  }

  /** Serves one connection of the guest's. */
  serve(guest: Duplex): void {
    guest.on('error', () => undefined);
    if (this.#open.size >= maxConnections) return void guest.destroy();
    this.#open.add(guest);
    guest.once('close', () => this.#open.delete(guest));
    void this.#recognize(guest).catch(() => guest.destroy());
  }

  /** Ends every connection: for a policy that has changed, or a guest that is gone. */
  closeAll(): void {
    for (const guest of this.#open) guest.destroy();
  }

  async #recognize(guest: Duplex): Promise<void> {
    const takeBack = giveUpAfter(firstByteTimeoutMs, () => guest.destroy());
    const first = await nextChunk(guest).finally(takeBack);
    if (!first) return void guest.destroy();
    guest.unshift(first);
    if (first[0] === socksVersion) await serveSocks(this.#gate, guest);
    else this.#http.emit('connection', guest);
  }

  async #tunnel(asked: IncomingMessage, guest: Duplex, head: Buffer): Promise<void> {
    guest.on('error', () => undefined);
    try {
      const target = parseAuthority(asked.url ?? '');
      const outside = await whileThere(guest, (signal) =>
        this.#gate.connect(target.host, target.port, signal),
      );
      outside.on('error', () => undefined);
      guest.write('HTTP/1.1 200 Connection established\r\n\r\n');
      if (head.length > 0) guest.unshift(head);
      await carry(this.#gate, target, guest, outside);
    } catch (error) {
      if (!(error instanceof EgressError)) return void guest.destroy();
      const { status, text } = this.#answerTo(error);
      const phrase = status === 403 ? 'Forbidden' : 'Bad Gateway';
      const length = Buffer.byteLength(text);
      guest.end(
        `HTTP/1.1 ${status} ${phrase}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ${length}\r\nConnection: close\r\n\r\n${text}`,
      );
    }
  }

  async #forward(asked: IncomingMessage, answer: ServerResponse): Promise<void> {
    try {
      const url = parseTarget(asked.url ?? '');
      const hungUp = new AbortController();
      answer.once('close', () => hungUp.abort());
      const socket = await this.#gate.connect(url.hostname, Number(url.port || 80), hungUp.signal);
      socket.on('error', () => undefined);
      const outgoing = request({
        createConnection: () => socket,
        method: asked.method,
        path: `${url.pathname}${url.search}`,
        headers: { ...endToEnd(asked), host: url.host },
      });
      asked.once('close', () => {
        if (!asked.complete) outgoing.destroy();
      });
      answer.once('close', () => socket.destroy());
      // A server may answer before it has everything, or hang up on the rest: its answer is what counts.
      void pipeline(asked, outgoing).catch(() => undefined);
      const response = await responseOf(outgoing);
      answer.writeHead(response.statusCode ?? 502, response.statusMessage, endToEndRaw(response));
      await pipeline(response, answer);
    } catch (error) {
      if (answer.headersSent) return void answer.destroy();
      const { status, text } =
        error instanceof EgressError
          ? this.#answerTo(error)
          : { status: 502, text: 'banger: the server did not answer as HTTP does\n' };
      answer.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', connection: 'close' });
      answer.end(text);
    }
  }

  /** Programs print what a proxy says, and whoever reads it is in the guest. */
  #answerTo(error: EgressError): { readonly status: number; readonly text: string } {
    if (error.kind !== 'blocked') return { status: 502, text: `banger: ${error.message}\n` };
    const name = this.#nameOf();
    return {
      status: 403,
      text: `banger: ${error.message}\nOn the host, see and change what it may reach: banger vm egress show ${name}\n`,
    };
  }
}

function responseOf(outgoing: ReturnType<typeof request>): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  outgoing.once('response', resolve);
  outgoing.on('error', reject);
  return promise;
}

/** `host:port` of CONNECT, with brackets around IPv6. */
function parseAuthority(text: string): { readonly host: string; readonly port: number } {
  const [, host, port] = /^(\[[^\]]*\]|[^:]*):(\d{1,5})$/.exec(text) ?? [];
  if (host === undefined) throw new EgressError('unreachable', 'CONNECT names no host and port');
  return { host, port: Number(port) };
}

function parseTarget(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === 'http:') return url;
  const what = url ? `"${url.protocol}" is reached by CONNECT` : 'it wants the whole URL, from http:// on';
  throw new EgressError('unreachable', `This is a proxy: ${what}`);
}

/** RFC 9110, 7.6.1: what is between two neighbours, and not for who is behind them. */
const hopByHop = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

function isHop(name: string, connection: string | undefined): boolean {
  const named = (connection ?? '')
    .toLowerCase()
    .split(',')
    .map((word) => word.trim());
  return hopByHop.has(name.toLowerCase()) || named.includes(name.toLowerCase());
}

function endToEnd({ headersDistinct, headers }: IncomingMessage): Record<string, string[]> {
  return Object.fromEntries(
    Object.entries(headersDistinct).flatMap(([name, values]) =>
      values && name !== 'host' && !isHop(name, headers.connection) ? [[name, values]] : [],
    ),
  );
}

function endToEndRaw({ rawHeaders, headers }: IncomingMessage): string[] {
  return rawHeaders.flatMap((name, index) =>
    index % 2 === 0 && !isHop(name, headers.connection) ? [name, rawHeaders[index + 1]!] : [],
  );
}
