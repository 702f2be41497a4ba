export const tarBlockSize = 512;

/** One header of a tar. Texts are byte strings. */
export interface TarMember {
  readonly path: string;
  /** `0` file, `1` hard link, `2` symlink, `3` and `4` devices, `5` directory, `6` fifo, `x` PAX records */
  readonly type: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: { readonly seconds: number; readonly nanoseconds: number };
  readonly linkPath?: string;
  readonly device?: { readonly major: number; readonly minor: number };
  /** Further PAX records, such as `SCHILY.xattr.user.a` */
  readonly records?: ReadonlyMap<string, Buffer>;
}

const maxOctal = { short: 0o7777777, long: 0o77777777777 };

/**
 * The header of a member: a ustar block, led by PAX records for what does not fit it (POSIX pax, “ustar Interchange
 * Format” and “pax Extended Header”). Equal members give equal bytes.
 */
export function memberHeader(member: TarMember): Buffer {
  const records = new Map(member.records);
  const { seconds, nanoseconds } = member.mtime;
  const linkPath = member.linkPath ?? '';
  if (member.path.length > 100) records.set('path', bytes(member.path));
  if (linkPath.length > 100) records.set('linkpath', bytes(linkPath));
  if (member.size > maxOctal.long) records.set('size', bytes(String(member.size)));
  if (member.uid > maxOctal.short) records.set('uid', bytes(String(member.uid)));
  if (member.gid > maxOctal.short) records.set('gid', bytes(String(member.gid)));
  if (nanoseconds !== 0 || seconds < 0 || seconds > maxOctal.long)
    records.set('mtime', bytes(decimalTime(seconds, nanoseconds)));

  const own = block(member);
  if (records.size === 0) return own;
  const content = Buffer.concat([...records].map(([key, value]) => record(key, value)));
  const carrier = block({
    path: `PaxHeaders/${member.path}`,
    type: 'x',
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: content.length,
    mtime: { seconds: 0, nanoseconds: 0 },
  });
  return Buffer.concat([carrier, content, padding(content.length), own]);
}

/**
 * The same for readers without PAX, such as busybox: GNU's long names, binary numbers where octal ones do not fit, and
 * no more of the time than its seconds.
 */
export function gnuMemberHeader(member: TarMember): Buffer {
  const { path, linkPath = '', mtime } = member;
  const parts = [block({ ...member, mtime: { seconds: Math.max(0, mtime.seconds), nanoseconds: 0 } })];
  const own = parts[0]!;
  for (const [offset, length, value] of [
    [108, 8, member.uid],
    [116, 8, member.gid],
    [124, 12, member.size],
  ] as const)
    if (value > (length === 8 ? maxOctal.short : maxOctal.long)) binary(own, { offset, length }, value);
  sum(own);
  if (path.length > 100) parts.unshift(longName('L', path));
  if (linkPath.length > 100) parts.unshift(longName('K', linkPath));
  return Buffer.concat(parts);
}

/** Zeros that follow contents of this size. */
export function padding(size: number): Buffer {
  return Buffer.alloc((tarBlockSize - (size % tarBlockSize)) % tarBlockSize);
}

/** The end of a tar. */
export const endOfTar = Buffer.alloc(2 * tarBlockSize);

function block(member: TarMember): Buffer {
  const data = Buffer.alloc(tarBlockSize);
  data.write(member.path, 0, 100, 'latin1');
  octal(data, 100, 8, member.mode);
  octal(data, 108, 8, fitting(member.uid, maxOctal.short));
  octal(data, 116, 8, fitting(member.gid, maxOctal.short));
  octal(data, 124, 12, fitting(member.size, maxOctal.long));
  octal(data, 136, 12, fitting(member.mtime.seconds, maxOctal.long));
  data.write(member.type, 156, 'latin1');
  data.write(member.linkPath ?? '', 157, 100, 'latin1');
  data.write('ustar\u000000', 257, 'latin1');
  if (member.device) {
    deviceNumber(data, 329, member.device.major);
    deviceNumber(data, 337, member.device.minor);
  }
  sum(data);
  return data;
}

function sum(data: Buffer): void {
  data.fill(' ', 148, 156);
  const total = data.reduce((all, byte) => all + byte, 0);
  data.write(`${total.toString(8).padStart(6, '0')}\u0000 `, 148, 'latin1');
}

/** A member of its own, in front of the one that it names. */
function longName(type: string, name: string): Buffer {
  const text = bytes(`${name}\0`);
  const size = text.length;
  const carrier = { path: '././@LongLink', type, mode: 0o644, uid: 0, gid: 0, size };
  return Buffer.concat([block({ ...carrier, mtime: { seconds: 0, nanoseconds: 0 } }), text, padding(size)]);
}

/** What a PAX record says instead is 0 in the block. */
function fitting(value: number, max: number): number {
  return value >= 0 && value <= max ? value : 0;
}

function octal(data: Buffer, offset: number, length: number, value: number): void {
  data.write(`${value.toString(8).padStart(length - 1, '0')}\u0000`, offset, 'latin1');
}

/** Minor numbers reach 2^20, and no PAX record is for them: GNU's binary form, which everybody reads. */
function deviceNumber(data: Buffer, offset: number, value: number): void {
  if (value <= maxOctal.short) octal(data, offset, 8, value);
  else binary(data, { offset, length: 8 }, value);
}

function binary(
  data: Buffer,
  field: { readonly offset: number; readonly length: number },
  value: number,
): void {
  const { offset, length } = field;
  data.fill(0, offset, offset + length);
  data.writeBigUInt64BE(BigInt(value), offset + length - 8);
  data[offset] = 0x80;
}

/** `LENGTH KEY=VALUE\n`, the length counting itself. */
function record(key: string, value: Buffer): Buffer {
  const rest = 1 + Buffer.byteLength(key, 'latin1') + 1 + value.length + 1;
  let length = rest + String(rest).length;
  if (rest + String(length).length !== length) length = rest + String(length).length;
  return Buffer.concat([bytes(`${length} ${key}=`), value, bytes('\n')]);
}

function decimalTime(seconds: number, nanoseconds: number): string {
  if (seconds >= 0) return decimal(seconds, nanoseconds);
  // Nanoseconds count upwards, also before 1970.
  return nanoseconds === 0 ? String(seconds) : `-${decimal(-seconds - 1, 1_000_000_000 - nanoseconds)}`;
}

function decimal(seconds: number, nanoseconds: number): string {
  const fraction = String(nanoseconds).padStart(9, '0').replace(/0+$/, '');
  return fraction === '' ? String(seconds) : `${seconds}.${fraction}`;
}

function bytes(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}
