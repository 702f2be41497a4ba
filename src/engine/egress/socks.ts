import type { Duplex } from 'node:stream';
import { formatIpAddress } from '../../state/ip-address.ts';
import { EgressError, type EgressGate } from './gate.ts';
import { carry, nextChunk, whileThere } from './tunnel.ts';

/** SOCKS 5, RFC 1928: CONNECT without a login, which is what a guest needs of it. */
const version = 5;
const noLogin = 0;
const noAcceptableLogin = 0xff;
const connectCommand = 1;
const addressTypes = { ipv4: 1, name: 3, ipv6: 4 } as const;
const replies = {
  done: 0,
  failed: 1,
  notAllowed: 2,
  hostUnreachable: 4,
  refused: 5,
  unknownCommand: 7,
  unknownAddress: 8,
} as const;

/** Serves one connection whose first byte said SOCKS 5. It ends with the connection. */
export async function serveSocks(gate: EgressGate, guest: Duplex): Promise<void> {
  const input = new Input(guest);
  const [, logins = 0] = await input.take(2);
  const offered = await input.take(logins);
  if (!offered.includes(noLogin)) return void guest.end(Buffer.from([version, noAcceptableLogin]));
  guest.write(Buffer.from([version, noLogin]));

  const [spoken, command, , type = 0] = await input.take(4);
  if (spoken !== version) return void guest.destroy();
  const host = await readHost(input, type);
  if (host === undefined) return end(guest, replies.unknownAddress);
  const port = (await input.take(2)).readUInt16BE();
  if (command !== connectCommand) return end(guest, replies.unknownCommand);
  let outside;
  try {
    outside = await whileThere(guest, (signal) => gate.connect(host, port, signal));
  } catch (error) {
    if (error instanceof EgressError) return end(guest, replyTo(error));
    throw error;
  }
  outside.on('error', () => undefined);
  guest.write(reply(replies.done));
  input.giveBack();
  await carry(gate, { host, port }, guest, outside);
}

async function readHost(input: Input, type: number): Promise<string | undefined> {
  switch (type) {
    case addressTypes.ipv4:
      return [...(await input.take(4))].join('.');
    case addressTypes.ipv6: {
      const hex = (await input.take(16)).toString('hex');
      return formatIpAddress({ bits: 128, value: BigInt(`0x${hex}`) });
    }
    case addressTypes.name: {
      const [length = 0] = await input.take(1);
      return (await input.take(length)).toString('latin1');
    }
    default:
      return undefined;
  }
}

function replyTo(error: EgressError): number {
  switch (error.kind) {
    case 'blocked':
      return replies.notAllowed;
    case 'refused':
      return replies.refused;
    case 'unresolved':
    case 'unreachable':
      return replies.hostUnreachable;
  }
}

/** The address that it was connected from is nobody's business. */
function reply(code: number): Buffer {
  return Buffer.from([version, code, 0, addressTypes.ipv4, 0, 0, 0, 0, 0, 0]);
}

function end(guest: Duplex, code: number): void {
  guest.end(reply(code));
}

/** Takes exact numbers of bytes from a stream. */
class Input {
  readonly #stream: Duplex;
  #bytes = Buffer.alloc(0);

  constructor(stream: Duplex) {
    this.#stream = stream;
  }

  /** Throws when the stream ends before. A client asks for at most 262 bytes here. */
  async take(count: number): Promise<Buffer> {
    while (this.#bytes.length < count) {
      const chunk = await nextChunk(this.#stream);
      if (!chunk) throw new EgressError('unreachable', 'The guest hung up');
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
    }
    const taken = this.#bytes.subarray(0, count);
    this.#bytes = this.#bytes.subarray(count);
    return taken;
  }

  /** What came early is for whoever reads next. */
  giveBack(): void {
    if (this.#bytes.length > 0) this.#stream.unshift(this.#bytes);
    this.#bytes = Buffer.alloc(0);
  }
}
