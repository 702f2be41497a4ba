/**
 * DNS messages as RFC 1035 and RFC 6891 (EDNS) have them. Of what a client sends, the header, the one question and the
 * marks of EDNS are read; every length is checked, and compression is not followed.
 */

export const types = {
  A: 1,
  NS: 2,
  SOA: 6,
  PTR: 12,
  AAAA: 28,
  OPT: 41,
  IXFR: 251,
  AXFR: 252,
  ANY: 255,
} as const;
export const classes = { IN: 1, ANY: 255 } as const;
export const rcodes = {
  ok: 0,
  formErr: 1,
  servFail: 2,
  nxDomain: 3,
  notImp: 4,
  refused: 5,
  badVers: 16,
} as const;
export type Rcode = (typeof rcodes)[keyof typeof rcodes];

/** What we are ready to receive over UDP, and never send more than: what fits into a packet everywhere. */
export const maxUdpBytes = 1232;
/** What a client without EDNS takes over UDP. */
const plainUdpBytes = 512;

const headerBytes = 12;
const maxNameBytes = 255;
const maxLabelBytes = 63;
/** An OPT record, and signatures of whoever signs: more is nothing that a question has. */
const maxAdditional = 4;

export interface Question {
  /** In lower case; bytes of any kind, as Latin-1 */
  readonly labels: readonly string[];
  readonly type: number;
  readonly class: number;
  /** As it was asked, for the answer to repeat: clients compare it to the letter */
  readonly bytes: Buffer;
}

export interface Query {
  readonly id: number;
  /** Recursion desired, which an answer repeats */
  readonly rd: boolean;
  readonly question: Question;
  /** Absent: the client does not speak EDNS */
  readonly edns: { readonly version: number; readonly udpBytes: number } | undefined;
}

/** What a message is: a question, one that is answered by a code alone, or nothing that anybody should answer. */
export type Received =
  | { readonly kind: 'query'; readonly query: Query }
  | { readonly kind: 'wrong'; readonly answer: Buffer }
  | { readonly kind: 'silence' };

/** Reads a message. Never throws, whatever is in it. */
export function readQuery(message: Buffer): Received {
  // Answers are not answered: two servers would go on for ever.
  if (message.length < headerBytes || (message[2]! & 0x80) !== 0) return { kind: 'silence' };
  const opcode = (message[2]! >> 3) & 15;
  if (opcode !== 0) return { kind: 'wrong', answer: bareAnswer(message, rcodes.notImp) };
  const query = parseQuery(message);
  return query ? { kind: 'query', query } : { kind: 'wrong', answer: bareAnswer(message, rcodes.formErr) };
}

function parseQuery(message: Buffer): Query | undefined {
  const [questions, answers, authorities, additional] = [4, 6, 8, 10].map((at) => message.readUInt16BE(at));
  if (questions !== 1 || answers !== 0 || authorities !== 0 || additional! > maxAdditional) return undefined;
  const question = parseQuestion(message);
  if (!question) return undefined;
  const opts: { version: number; udpBytes: number }[] = [];
  let at = headerBytes + question.bytes.length;
  for (let left = additional!; left > 0; left--) {
    // The root's name, or a name by labels; whoever compresses here points at something else.
    const name = parseName(message, at);
    if (!name || name.end + 10 > message.length) return undefined;
    const [type, size, version, length] = [
      message.readUInt16BE(name.end),
      message.readUInt16BE(name.end + 2),
      message[name.end + 5]!,
      message.readUInt16BE(name.end + 8),
    ];
    at = name.end + 10 + length;
    if (at > message.length) return undefined;
    if (type === types.OPT) opts.push({ version, udpBytes: size });
    if (type === types.OPT && name.labels.length > 0) return undefined;
  }
  if (opts.length > 1) return undefined;
  return { id: message.readUInt16BE(0), rd: (message[2]! & 1) !== 0, question, edns: opts[0] };
}

function parseQuestion(message: Buffer): Question | undefined {
  const name = parseName(message, headerBytes);
  if (!name || name.end + 4 > message.length) return undefined;
  return {
    labels: name.labels,
    type: message.readUInt16BE(name.end),
    class: message.readUInt16BE(name.end + 2),
    bytes: message.subarray(headerBytes, name.end + 4),
  };
}

/** A name that is written out; undefined when it is cut off, too long, or compressed. */
function parseName(
  message: Buffer,
  from: number,
): { readonly labels: readonly string[]; readonly end: number } | undefined {
  const labels: string[] = [];
  for (let at = from; at < message.length && at - from < maxNameBytes;) {
    const length = message[at]!;
    if (length === 0) return { labels, end: at + 1 };
    if (length > maxLabelBytes || at + 1 + length > message.length) return undefined;
    labels.push(
      message.toString('latin1', at + 1, at + 1 + length).replaceAll(/[A-Z]+/g, (up) => up.toLowerCase()),
    );
    at += 1 + length;
  }
  return undefined;
}

/** Header and code alone: what can be said to a question that could not be read. */
function bareAnswer(message: Buffer, rcode: Rcode): Buffer {
  const answer = Buffer.alloc(headerBytes);
  message.copy(answer, 0, 0, 2);
  answer[2] = 0x80 | (message[2]! & 0x79);
  answer[3] = rcode;
  return answer;
}

export interface DnsRecord {
  readonly name: readonly string[];
  readonly type: number;
  /** Seconds for which it may be remembered */
  readonly ttl: number;
  readonly data: Buffer;
}

export interface Answer {
  readonly rcode: Rcode;
  /** True when we are who knows */
  readonly isAuthoritative: boolean;
  readonly answers: readonly DnsRecord[];
  readonly authority: readonly DnsRecord[];
}

/**
 * The message that answers a query, of at most as many bytes as its way takes: one that is longer is sent without its
 * records and marked as cut, so that the client asks again over TCP.
 */
export function encodeAnswer(query: Query, answer: Answer, transport: 'udp' | 'tcp'): Buffer {
  const opt = query.edns ? optRecord(answer.rcode) : Buffer.alloc(0);
  const records = [...answer.answers, ...answer.authority].map((record) =>
    encodeRecord(record, query.question),
  );
  const whole = Buffer.concat([header(query, answer, false), query.question.bytes, ...records, opt]);
  const limit =
    transport === 'tcp'
      ? 0xffff
      : Math.min(maxUdpBytes, Math.max(plainUdpBytes, query.edns?.udpBytes ?? plainUdpBytes));
  if (whole.length <= limit) return whole;
  const none = { ...answer, answers: [], authority: [] };
  return Buffer.concat([header(query, none, true), query.question.bytes, opt]);
}

function header(query: Query, answer: Answer, isCut: boolean): Buffer {
  const bytes = Buffer.alloc(headerBytes);
  bytes.writeUInt16BE(query.id, 0);
  bytes[2] = 0x80 | (answer.isAuthoritative ? 4 : 0) | (isCut ? 2 : 0) | (query.rd ? 1 : 0);
  bytes[3] = answer.rcode & 15;
  bytes.writeUInt16BE(1, 4);
  bytes.writeUInt16BE(answer.answers.length, 6);
  bytes.writeUInt16BE(answer.authority.length, 8);
  bytes.writeUInt16BE(query.edns ? 1 : 0, 10);
  return bytes;
}

const pointerToQuestion = Buffer.from([0xc0, headerBytes]);

function encodeRecord({ name, type, ttl, data }: DnsRecord, question: Question): Buffer {
  const fixed = Buffer.alloc(10);
  fixed.writeUInt16BE(type, 0);
  fixed.writeUInt16BE(classes.IN, 2);
  fixed.writeUInt32BE(ttl, 4);
  fixed.writeUInt16BE(data.length, 8);
  const isAsked =
    name.length === question.labels.length && name.every((label, n) => label === question.labels[n]);
  return Buffer.concat([isAsked ? pointerToQuestion : encodeName(name), fixed, data]);
}

function optRecord(rcode: Rcode): Buffer {
  const bytes = Buffer.alloc(11);
  bytes.writeUInt16BE(types.OPT, 1);
  bytes.writeUInt16BE(maxUdpBytes, 3);
  bytes[5] = rcode >> 4;
  return bytes;
}

/** A name written out. Its labels are ours, so they fit. */
export function encodeName(labels: readonly string[]): Buffer {
  return Buffer.concat([
    ...labels.map((label) => Buffer.from(`${String.fromCharCode(label.length)}${label}`, 'latin1')),
    Buffer.alloc(1),
  ]);
}
