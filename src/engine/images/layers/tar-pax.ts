import { LayerRefusal } from './layer-refusal.ts';

/** Key to value, both byte strings. An empty value takes back what an earlier header set. */
export type PaxRecords = ReadonlyMap<string, string>;

const newline = 0x0a;
const space = 0x20;
const zero = 0x30;
/** Headers have a million bytes at most. */
const maxLengthDigits = 8;

/** Every sparse chunk of formats 0.0 and 0.1 is in such records. */
export interface ParsedPax {
  readonly records: PaxRecords;
  /** Values of the repeated `GNU.sparse.offset` and `GNU.sparse.numbytes`, alternating, in order */
  readonly sparsePairs: readonly string[];
  /** Records in all, those that another one takes back included */
  readonly count: number;
}

/**
 * Parses the records of an extended header: `length key=value\n`, where length
 * counts all of it, so values may hold any byte (POSIX pax, “pax Extended Header”).
 */
export function parsePax(data: Buffer): ParsedPax {
  const records = new Map<string, string>();
  const sparsePairs: string[] = [];
  let count = 0;
  for (let position = 0; position < data.length;) {
    const { start, end } = recordAt(data, position);
    const record = data.toString('latin1', start, end - 1);
    const separator = record.indexOf('=');
    if (separator < 1) throw damaged();
    const key = record.slice(0, separator);
    const value = record.slice(separator + 1);
    if (key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes') sparsePairs.push(value);
    records.set(key, value);
    position = end;
    count++;
  }
  return { records, sparsePairs, count };
}

/** Where the record begins behind its length, and where the next one begins. */
function recordAt(data: Buffer, position: number): { readonly start: number; readonly end: number } {
  let length = 0;
  let at = position;
  for (; at < position + maxLengthDigits; at++) {
    const digit = (data[at] ?? 0) - zero;
    if (digit < 0 || digit > 9) break;
    length = length * 10 + digit;
  }
  const start = at + 1;
  const end = position + length;
  const isSane = at > position && data[position] !== zero && data[at] === space;
  if (!isSane || end > data.length || end <= start || data[end - 1] !== newline) throw damaged();
  return { start, end };
}

function damaged(): LayerRefusal {
  return new LayerRefusal('has a damaged extended header');
}

/** A whole number of a record, or undefined when it is not there. */
export function paxInteger(records: PaxRecords, key: string): number | undefined {
  const value = records.get(key);
  if (value === undefined || value === '') return undefined;
  const result = Number(value);
  if (!/^-?[0-9]+$/.test(value) || !Number.isSafeInteger(result)) throw badValue(key, value);
  return result;
}

/** A time of a record, with as many decimals as it likes; nanoseconds are kept. */
export function paxTime(
  records: PaxRecords,
  key: string,
): { readonly seconds: number; readonly nanoseconds: number } | undefined {
  const value = records.get(key);
  if (value === undefined || value === '') return undefined;
  const [, sign, whole, fraction = ''] = /^(-?)([0-9]{1,15})(?:\.([0-9]*))?$/.exec(value) ?? [];
  if (whole === undefined) throw badValue(key, value);
  const nanoseconds = Number(fraction.slice(0, 9).padEnd(9, '0'));
  if (sign !== '-') return { seconds: Number(whole), nanoseconds };
  // -1.25 is a quarter before -1: nanoseconds always count forwards.
  return nanoseconds === 0
    ? { seconds: 0 - Number(whole), nanoseconds }
    : { seconds: -Number(whole) - 1, nanoseconds: 1_000_000_000 - nanoseconds };
}

/** The xattrs of a file: raw as star and GNU tar write them, base64 as libarchive does. */
export function paxXattrs(records: PaxRecords): Map<string, Buffer> | undefined {
  if (records.size === 0) return undefined;
  const xattrs = new Map<string, Buffer>();
  for (const [key, value] of records) {
    if (key.startsWith('LIBARCHIVE.xattr.')) {
      xattrs.set(percentDecoded(key.slice('LIBARCHIVE.xattr.'.length)), Buffer.from(value, 'base64'));
    }
  }
  for (const [key, value] of records) {
    if (key.startsWith('SCHILY.xattr.'))
      xattrs.set(key.slice('SCHILY.xattr.'.length), Buffer.from(value, 'latin1'));
  }
  return xattrs.size === 0 ? undefined : xattrs;
}

function percentDecoded(name: string): string {
  return name.replace(/%([0-9a-fA-F]{2})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 16)),
  );
}

function badValue(key: string, value: string): LayerRefusal {
  return new LayerRefusal(
    `has an extended header with ${key} "${value.slice(0, 40).replace(/[^ -~]/g, '?')}"`,
  );
}
