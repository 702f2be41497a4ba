import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** The kernel package that the build downloaded, or why there is none. */
export function kernelPackage(): { readonly path: string } | { readonly missing: string } {
  const cache = resolve(process.env['BANGER_BUILD_CACHE'] ?? '.cache', 'debs');
  const names = existsSync(cache) ? readdirSync(cache) : [];
  // The latest: a cache keeps those of earlier builds.
  const time = (path: string): number => statSync(path).mtimeMs;
  const [path] = names
    .filter((name) => /^linux-image-\d.*\.deb$/.test(name))
    .map((name) => join(cache, name))
    .toSorted((one, other) => time(other) - time(one));
  if (path !== undefined) return { path };
  return { missing: 'no linux-image package is in the cache of the build: npm run build downloads it' };
}

/** Runs a program over bytes. */
export function filter(argv: readonly [string, ...string[]], input: Buffer): Buffer {
  const [program, ...args] = argv;
  return execFileSync(program, args, {
    input,
    maxBuffer: 512 * 1024 ** 2,
    stdio: ['pipe', 'pipe', 'ignore'],
  });
}

export const compressors = {
  lz4: (bytes: Buffer) => filter(['lz4', '-l', '-9', '-c'], bytes),
  gzip: (bytes: Buffer) => filter(['gzip', '-n', '-c'], bytes),
  zstd: (bytes: Buffer) => filter(['zstd', '-q', '-c'], bytes),
  xz: (bytes: Buffer) => filter(['xz', '--check=crc32', '--x86', '--lzma2=dict=32MiB,preset=1', '-c'], bytes),
} as const;

const sectors = 4;
const payloadOffset = 64;

/** A bzImage as the boot protocol describes it, around a payload; `header` says what to lie about. */
export function bzImage(
  payload: Buffer,
  options: { unpackedBytes: number; isGzip?: boolean; payloadLength?: number; initBytes?: number },
): Buffer {
  const size = Buffer.alloc(4);
  size.writeUInt32LE(options.unpackedBytes);
  const body = options.isGzip ? payload : Buffer.concat([payload, size]);
  const setup = Buffer.alloc((sectors + 1) * 512 + payloadOffset);
  setup[0x1f1] = sectors;
  setup.writeUInt16LE(0xaa55, 0x1fe);
  setup.write('HdrS', 0x202, 'latin1');
  setup.writeUInt16LE(0x020f, 0x206);
  setup.writeUInt32LE(payloadOffset, 0x248);
  setup.writeUInt32LE(options.payloadLength ?? body.length, 0x24c);
  setup.writeUInt32LE(options.initBytes ?? options.unpackedBytes + 1024 * 1024, 0x260);
  return Buffer.concat([setup, body, Buffer.alloc(512)]);
}

/** The smallest file that passes for a kernel: ELF header, what to load, the PVH note, texts. */
export function tinyKernel(
  options: { version?: string; hasPvh?: boolean; texts?: readonly string[] } = {},
): Buffer {
  const { version = '6.1.0-test', hasPvh = true, texts = everything } = options;
  const note = Buffer.alloc(20);
  note.writeUInt32LE(4, 0);
  note.writeUInt32LE(4, 4);
  note.writeUInt32LE(18, 8);
  note.write('Xen\0', 12, 'latin1');
  const banner = `Linux version %s (%s)\0Linux version ${version} (builder@test) (gcc) #1 SMP\0`;
  const content = Buffer.from(`${banner}${texts.map((text) => `${text}\0`).join('')}`, 'latin1');
  const headers = Buffer.alloc(64 + 2 * 56);
  headers.write('\x7fELF\x02\x01\x01', 0, 'latin1');
  headers.writeUInt16LE(2, 16);
  headers.writeUInt16LE(62, 18);
  headers.writeBigUInt64LE(64n, 32);
  headers.writeUInt16LE(56, 54);
  headers.writeUInt16LE(2, 56);
  const segment = (index: number, [type, offset, length]: [number, number, number]): void => {
    const at = 64 + index * 56;
    headers.writeUInt32LE(type, at);
    headers.writeBigUInt64LE(BigInt(offset), at + 8);
    headers.writeBigUInt64LE(BigInt(length), at + 32);
  };
  segment(0, [1, headers.length, content.length]);
  segment(1, [hasPvh ? 4 : 0, headers.length + content.length, note.length]);
  return Buffer.concat([headers, content, note]);
}

/** What a kernel has in it that has all drivers built in. */
export const everything = ['virtio-pci', 'virtio-mmio', 'virtio_blk', 'virtio_net', 'ext4'];

/** The files of a newc cpio archive, by path. */
export function cpioFiles(archive: Buffer): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  for (let at = 0; ;) {
    const field = (index: number): number =>
      parseInt(archive.toString('latin1', at + 6 + index * 8, at + 14 + index * 8), 16);
    const [mode, size, nameBytes] = [field(1), field(6), field(11)];
    const name = archive.toString('latin1', at + 110, at + 110 + nameBytes - 1);
    if (name === 'TRAILER!!!') return files;
    const start = Math.ceil((at + 110 + nameBytes) / 4) * 4;
    if ((mode & 0o170000) === 0o100000) files.set(name, archive.subarray(start, start + size));
    at = Math.ceil((start + size) / 4) * 4;
  }
}
