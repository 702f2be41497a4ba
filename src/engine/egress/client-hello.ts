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
export const maxHelloBytes = 2 ** 16;

/**
 * Reads the server name (SNI, RFC 6066) of a TLS ClientHello from the first bytes of a connection. It may be spread
 * over several records, and arrive in pieces.
 */
export function readClientHello(bytes: Buffer): Hello {
  if (bytes.length === 0) return { kind: 'unfinished' };
  if (bytes[0] !== handshakeRecord) return { kind: 'nameless' };
  const records = joinRecords(bytes);
  if (records === undefined) return { kind: 'malformed' };
  const { message } = records;
  if (message.length < handshakeHeaderBytes) return { kind: 'unfinished' };
  if (message[0] !== clientHello) return { kind: 'malformed' };
  const length = message.readUIntBE(1, 3);
  if (length > maxHelloBytes) return { kind: 'malformed' };
  if (message.length < handshakeHeaderBytes + length) return { kind: 'unfinished' };
  try {
    return readBody(new Reader(message.subarray(handshakeHeaderBytes, handshakeHeaderBytes + length)));
  } catch (error) {
    if (error instanceof RangeError) return { kind: 'malformed' };
    throw error;
  }
}

/** The handshake bytes of all records so far; undefined when something is no handshake record. */
function joinRecords(bytes: Buffer): { readonly message: Buffer } | undefined {
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length;) {
    if (bytes[at] !== handshakeRecord)
      return parts.length === 0 ? undefined : { message: Buffer.concat(parts) };
    if (at + recordHeaderBytes > bytes.length) break;
    const length = bytes.readUInt16BE(at + 3);
    if (bytes[at + 1] !== 3 || length === 0 || length > maxRecordBytes) return undefined;
    parts.push(bytes.subarray(at + recordHeaderBytes, at + recordHeaderBytes + length));
    at += recordHeaderBytes + length;
  }
  return { message: Buffer.concat(parts) };
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
