import { createHash } from 'node:crypto';
import { deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { encodeEntry, file, withChecksum } from './tar-builder.ts';

/** A gzip layer that holds one file of zeros, `sizeBytes` long, at a thousandth of its size. */
export function gzipBomb(sizeBytes: number): Buffer {
  const chunk = 64 * 2 ** 20;
  const member = gzipSync(Buffer.alloc(chunk), { level: 9 });
  const count = Math.floor(sizeBytes / chunk);
  const head = gzipSync(encodeEntry({ path: 'zeros', size: count * chunk }));
  return Buffer.concat([head, Buffer.alloc(member.length * count, member), gzipSync(Buffer.alloc(1024))]);
}

/** The same with zstd, whose blocks of one repeated byte take four bytes for 128 KiB. */
export function zstdBomb(sizeBytes: number): Buffer {
  const block = 128 * 1024;
  const count = Math.floor(sizeBytes / block);
  const head = zstdCompressSync(encodeEntry({ path: 'zeros', size: count * block }));
  // Magic, descriptor, window of 1 MiB.
  const frame = Buffer.from('28b52ffd0050', 'hex');
  const blocks = Buffer.alloc(4 * count, zstdRun(block, 0));
  const last = zstdRun(0, 1);
  return Buffer.concat([head, frame, blocks, last, zstdCompressSync(Buffer.alloc(1024))]);
}

/** A block of `length` zeros. */
export function zstdRun(length: number, isLast: 0 | 1): Buffer {
  const run = Buffer.alloc(4);
  run.writeUIntLE((length << 3) | (1 << 1) | isLast, 0, 3);
  return run;
}

/** A gzip layer with `count` empty files in one directory. */
export function manyFiles(count: number): Buffer {
  const perMember = 65_536;
  const members: Buffer[] = [];
  const header = encodeEntry(file('many/00000000', ''));
  for (let from = 0; from < count; from += perMember) {
    const part = Buffer.alloc(Math.min(perMember, count - from) * 512, header);
    for (let index = 0; index * 512 < part.length; index++) {
      const block = part.subarray(index * 512, (index + 1) * 512);
      block.write(String(from + index).padStart(8, '0'), 5, 'latin1');
      withChecksum(block);
    }
    members.push(gzipSync(part, { level: 1 }));
  }
  return Buffer.concat([...members, gzipSync(Buffer.alloc(1024))]);
}

/** A gzip layer with `count` entries for one and the same empty file. */
export function sameFile(count: number): Buffer {
  const perMember = 2 ** 17;
  const member = gzipSync(Buffer.alloc(perMember * 512, encodeEntry(file('same', ''))));
  return Buffer.concat(Array<Buffer>(Math.ceil(count / perMember)).fill(member));
}

/** A git pack of 16 KiB: a blob of 16 MiB, and one that is `copies` of it, as a delta. */
export function packBomb(copies: number): Buffer {
  const base = Buffer.alloc(0xff_ff_ff, 'a');
  const name = createHash('sha1').update(`blob ${base.length}\0`).update(base).digest();
  const copy = Buffer.from('f0ffffff', 'hex');
  const delta = Buffer.concat([
    packNumber(base.length),
    packNumber(base.length * copies),
    Buffer.alloc(4 * copies, copy),
  ]);
  const head = Buffer.from('5041434b0000000200000002', 'hex');
  const objects = [packHeader(3, base.length), deflateSync(base), packHeader(7, delta.length), name];
  const pack = Buffer.concat([head, ...objects, deflateSync(delta)]);
  return Buffer.concat([pack, createHash('sha1').update(pack).digest()]);
}

/** Seven bits a byte, the lowest first. */
function packNumber(value: number): Buffer {
  const bytes: number[] = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return Buffer.from([...bytes, value]);
}

/** Four bits of an object's length share a byte with its type. */
function packHeader(type: number, length: number): Buffer {
  const first = (type << 4) | (length & 15);
  return length < 16
    ? Buffer.from([first])
    : Buffer.concat([Buffer.from([first | 128]), packNumber(length >> 4)]);
}
