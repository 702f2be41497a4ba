import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import {
  PackingChoice,
  packedPieces,
  sampleBytes,
  stretchBytes,
  type Packing,
  type Stretch,
  unpackInto,
} from '../../src/engine/packed-pieces.ts';

const text = Buffer.from('export const value = compute(1_000_003);\n'.repeat(6400));

async function pack(pieces: Iterable<Buffer>, choice?: PackingChoice): Promise<Buffer> {
  return buffer(packedPieces(Readable.from(pieces), { choice }));
}

/** What the guest's shell makes of it. */
function unpack(shell: readonly [string, ...string[]], input: Buffer): Buffer {
  const [program, ...args] = [...shell, '-c', unpackInto('cat')];
  const { stdout, status } = spawnSync(program!, args, { input, maxBuffer: 64 * 1024 * 1024 });
  expect(status).toBe(0);
  return stdout;
}

test.for([
  ['the host', ['sh']],
  ['the toolbox', ['busybox', 'sh']],
] as const)('what %s unpacks is what was packed, however each piece was', async ([, shell]) => {
  const pieces = [text, randomBytes(300_000), Buffer.alloc(1_000_000), text, Buffer.from('x')];
  const packings: Packing[] = ['packed', 'stored', 'packed', 'stored', 'packed'];
  const choice = {
    note: () => undefined,
    get packing() {
      return packings.shift()!;
    },
  } as unknown as PackingChoice;
  expect(unpack(shell, await pack(pieces, choice)).equals(Buffer.concat(pieces))).toBe(true);
});

test('content goes plain when its beginning cannot be packed, whatever the little is that comes before it', async () => {
  const noise = Array.from({ length: 2 + sampleBytes / (256 * 1024) }, () => randomBytes(256 * 1024));
  const pieces = [Buffer.alloc(512), ...noise, text];
  const plain = await pack(pieces);
  expect(plain.length).toBe('plain\n'.length + Buffer.concat(pieces).length);
  expect(unpack(['busybox', 'sh'], plain).equals(Buffer.concat(pieces))).toBe(true);

  const mixed = [...noise.slice(0, 3), text, ...noise];
  const packed = await pack(mixed);
  expect(packed.subarray(0, 7).toString()).toBe('packed\n');
  expect(unpack(['busybox', 'sh'], packed).equals(Buffer.concat(mixed))).toBe(true);
  expect((await pack([])).toString()).toBe('plain\n');
  expect((await pack([Buffer.alloc(30_000)])).length).toBe('plain\n'.length + 30_000);
});

test('text becomes a fraction, and what cannot be packed hardly grows', async () => {
  expect((await pack([text])).length).toBeLessThan(text.length / 10);
  const noise = Array.from({ length: 40 }, () => randomBytes(256 * 1024));
  expect((await pack(noise)).length).toBeLessThan(40 * 256 * 1024 * 1.001);
});

test('a failure of the content comes through', async () => {
  const failing = async function* (): AsyncGenerator<Buffer> {
    yield text;
    throw new Error('torn');
  };
  await expect(buffer(packedPieces(failing()))).rejects.toThrow('torn');
});

/** Stretches of a link that takes `linkRate` bytes a millisecond from a packer that makes `packRate`. */
function choices(
  { linkRate, packRate, ratio }: { linkRate: number; packRate: number; ratio: number },
  count: number,
): Packing[] {
  const choice = new PackingChoice();
  return Array.from({ length: count }, () => {
    const { packing } = choice;
    const packedBytes = packing === 'packed' ? stretchBytes * ratio : stretchBytes;
    const makingMs = packing === 'packed' ? stretchBytes / packRate : 1;
    const takingMs = packedBytes / linkRate;
    const stretch: Stretch = {
      packing,
      bytes: stretchBytes,
      packedBytes,
      totalMs: Math.max(makingMs, takingMs),
      waitedMs: Math.max(0, takingMs - makingMs),
    };
    choice.note(stretch);
    return packing;
  });
}

const count = (all: readonly Packing[], packing: Packing): number =>
  all.filter((each) => each === packing).length;

test('a link that is slower than the packer has everything packed', () => {
  expect(choices({ linkRate: 6_000, packRate: 80_000, ratio: 0.2 }, 100)).not.toContain('stored');
});

test('a link that is faster than the packer has next to nothing packed', () => {
  const chosen = choices({ linkRate: 400_000, packRate: 80_000, ratio: 0.2 }, 170);
  expect(chosen.slice(0, 3)).toEqual(['packed', 'stored', 'stored']);
  expect(count(chosen, 'packed')).toBe(10);
});

test('a packer that nobody waits for, and that is faster than the link would be, goes on', () => {
  const chosen = choices({ linkRate: 60_000, packRate: 80_000, ratio: 0.2 }, 170);
  expect(count(chosen, 'stored')).toBe(10);
});

test('what does not become smaller is stored, and tried again now and then', () => {
  const chosen = choices({ linkRate: 6_000, packRate: 80_000, ratio: 0.99 }, 170);
  expect(count(chosen, 'packed')).toBe(10);
});
