/** What a test says of an entry; the rest has defaults. Texts are byte strings. */
export interface EntrySpec {
  readonly path: string;
  /** A tar type character; `0` is a file */
  readonly type?: string;
  readonly data?: string | Buffer;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly linkPath?: string;
  readonly major?: number;
  readonly minor?: number;
  /** Replaces the size of `data` in the header */
  readonly size?: number;
  /** Extended header records in front of the entry */
  readonly pax?: Readonly<Record<string, string>> | readonly (readonly [string, string])[];
}

export const file = (
  path: string,
  data: string | Buffer = path,
  more: Partial<EntrySpec> = {},
): EntrySpec => ({
  path,
  data,
  ...more,
});
export const directory = (path: string, more: Partial<EntrySpec> = {}): EntrySpec => ({
  path,
  type: '5',
  mode: 0o755,
  ...more,
});
export const symlink = (path: string, linkPath: string): EntrySpec => ({
  path,
  type: '2',
  linkPath,
  mode: 0o777,
});
export const hardlink = (path: string, linkPath: string): EntrySpec => ({ path, type: '1', linkPath });

/** A tar file of these entries, with its end mark. Long texts go into pax records. */
export function tarOf(entries: readonly EntrySpec[]): Buffer {
  return Buffer.concat([...entries.map(encodeEntry), Buffer.alloc(1024)]);
}

export function encodeEntry(spec: EntrySpec): Buffer {
  const pax: [string, string][] = Array.isArray(spec.pax) ? [...spec.pax] : Object.entries(spec.pax ?? {});
  if (spec.path.length > 100) pax.push(['path', spec.path]);
  if ((spec.linkPath ?? '').length > 100) pax.push(['linkpath', spec.linkPath ?? '']);
  const data = bytesOf(spec.data ?? '');
  const parts = [header(spec, data.length), padded(data)];
  if (pax.length > 0) {
    const records = Buffer.concat(pax.map(([key, value]) => paxRecord(key, value)));
    parts.unshift(header({ path: 'pax', type: 'x' }, records.length), padded(records));
  }
  return Buffer.concat(parts);
}

/** `length key=value\n`, whose length counts its own digits. */
export function paxRecord(key: string, value: string): Buffer {
  const body = ` ${key}=${value}\n`;
  let length = body.length;
  while (String(length).length + body.length !== length) length = String(length).length + body.length;
  return Buffer.from(`${length}${body}`, 'latin1');
}

function header(spec: EntrySpec, dataLength: number): Buffer {
  const block = Buffer.alloc(512);
  block.write(spec.path.slice(0, 100), 0, 'latin1');
  octal(block, spec.mode ?? 0o644, 100, 8);
  octal(block, spec.uid ?? 0, 108, 8);
  octal(block, spec.gid ?? 0, 116, 8);
  octal(block, spec.size ?? dataLength, 124, 12);
  octal(block, spec.mtime ?? 1_600_000_000, 136, 12);
  block.write(spec.type ?? '0', 156, 'latin1');
  block.write((spec.linkPath ?? '').slice(0, 100), 157, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  octal(block, spec.major ?? 0, 329, 8);
  octal(block, spec.minor ?? 0, 337, 8);
  return withChecksum(block);
}

/** Numbers that octal digits cannot hold become base-256, as GNU tar writes them. */
function octal(block: Buffer, value: number, offset: number, length: number): void {
  if (value >= 0 && value < 8 ** (length - 1)) {
    block.write(value.toString(8).padStart(length - 1, '0'), offset, 'latin1');
    return;
  }
  const bits = BigInt.asUintN(length * 8, BigInt(value));
  Buffer.from(bits.toString(16).padStart(length * 2, '0'), 'hex').copy(block, offset);
  block.writeUInt8(block.readUInt8(offset) | 0x80, offset);
}

export function withChecksum(block: Buffer): Buffer {
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

function padded(data: Buffer): Buffer {
  return Buffer.concat([data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
}

function bytesOf(data: string | Buffer): Buffer {
  return typeof data === 'string' ? Buffer.from(data, 'latin1') : data;
}
