import { GrowingBuffer } from '../rpc/growing-buffer.ts';

/** What the beginning of a connection says about the server that is meant. */
export type Hello =
  /** More is needed to tell */
  | { readonly kind: 'unfinished' }
  /** Not TLS, or nothing that names a server */
  | { readonly kind: 'nameless' }
  | { readonly kind: 'named'; readonly serverName: string }
  /** It begins like TLS and is not: no client of ours says that */
  | { readonly kind: 'malformed' };

const handshakeRecord = 0x16;
const clientHello = 1;
const serverNameExtension = 0;
const hostName = 0;
const recordHeaderBytes = 5;
const handshakeHeaderBytes = 4;
/** RFC 8446, 5.1: a record is no longer. */
const maxRecordBytes = 2 ** 14;
/** Post-quantum key shares make it some 2 KiB; one that is longer than this is not believed. */
const maxHelloBytes = 2 ** 16;
/** One is enough for what clients say. Some send several, to be hidden from who looks at the first one only. */
const maxRecords = 64;

/**
 * Reads the server name (SNI, RFC 6066) of a TLS ClientHello from the first bytes of a connection, in whatever pieces
 * they arrive. It may be spread over several records. Each byte is looked at once: a guest decides how small pieces and
 * records are.
 */
export class ClientHelloReader {
  readonly #header = Buffer.alloc(recordHeaderBytes);
  #headerLength = 0;
  #records = 0;
  /** Bytes of the record that are still to come */
  #recordRest = 0;
  readonly #message = new GrowingBuffer();
  /** Of the whole message, once its header is there */
  #wantedLength: number | undefined;

  /** What all that came until now says. Nothing more may be given to it once that is something. */
  take(chunk: Buffer): Hello {
    for (let rest = chunk; rest.length > 0;) {
      if (this.#recordRest === 0) {
        const trouble = this.#takeHeaderByte(rest[0]!);
        if (trouble) return trouble;
        rest = rest.subarray(1);
        continue;
      }
      const part = rest.subarray(0, this.#recordRest);
      this.#recordRest -= part.length;
      rest = rest.subarray(part.length);
      this.#message.append(part);
      const hello = this.#lookAtMessage();
      if (hello.kind !== 'unfinished') return hello;
    }
    return { kind: 'unfinished' };
  }

  #takeHeaderByte(byte: number): Hello | undefined {
    const isFirst = this.#headerLength === 0;
    if (isFirst && byte !== handshakeRecord) return { kind: this.#records === 0 ? 'nameless' : 'malformed' };
    this.#header[this.#headerLength++] = byte;
    if (this.#headerLength < recordHeaderBytes) return undefined;
    this.#headerLength = 0;
    const length = this.#header.readUInt16BE(3);
    const isFit = this.#header[1] === 3 && length > 0 && length <= maxRecordBytes;
    if (!isFit || ++this.#records > maxRecords) return { kind: 'malformed' };
    this.#recordRest = length;
    return undefined;
  }

  #lookAtMessage(): Hello {
    if (this.#message.length < handshakeHeaderBytes) return { kind: 'unfinished' };
    this.#wantedLength ??= wantedLength(this.#message.peek());
    if (this.#wantedLength === undefined) return { kind: 'malformed' };
    if (this.#message.length < this.#wantedLength) return { kind: 'unfinished' };
    const body = this.#message.peek().subarray(handshakeHeaderBytes, this.#wantedLength);
    try {
      return readBody(new Reader(body));
    } catch (error) {
      if (error instanceof RangeError) return { kind: 'malformed' };
      throw error;
    }
  }
}

/** By the header of a handshake message; undefined for one that is no ClientHello to be believed. */
function wantedLength(message: Buffer): number | undefined {
  const length = message.readUIntBE(1, 3);
  if (message[0] !== clientHello || length > maxHelloBytes) return undefined;
  return handshakeHeaderBytes + length;
}

function readBody(body: Reader): Hello {
  body.take(2 + 32); // Version and random.
  body.take(body.number(1)); // Session id.
  body.take(body.number(2)); // Cipher suites.
  body.take(body.number(1)); // Compression methods.
  if (body.isAtEnd) return { kind: 'nameless' };
  const extensions = new Reader(body.take(body.number(2)));
  while (!extensions.isAtEnd) {
    const type = extensions.number(2);
    const content = new Reader(extensions.take(extensions.number(2)));
    if (type !== serverNameExtension) continue;
    const names = new Reader(content.take(content.number(2)));
    while (!names.isAtEnd) {
      const kind = names.number(1);
      const name = names.take(names.number(2)).toString('latin1');
      if (kind === hostName) return { kind: 'named', serverName: name };
    }
  }
  return { kind: 'nameless' };
}

/** Takes bytes from the front. Throws `RangeError` when there are fewer. */
class Reader {
  #rest: Buffer;

  constructor(bytes: Buffer) {
    this.#rest = bytes;
  }

  get isAtEnd(): boolean {
    return this.#rest.length === 0;
  }

  take(count: number): Buffer {
    if (count > this.#rest.length) throw new RangeError('shorter than it says');
    const taken = this.#rest.subarray(0, count);
    this.#rest = this.#rest.subarray(count);
    return taken;
  }

  number(bytes: number): number {
    return this.take(bytes).readUIntBE(0, bytes);
  }
}
