import type { Stretch } from '../ext4/file-contents.ts';
import { LayerRefusal } from './layer-refusal.ts';
import { number, type TarHeader } from './tar-header.ts';
import { type ParsedPax, paxInteger } from './tar-pax.ts';

/** A sparse file: its size, and the stretches whose bytes the archive has, one after the other. */
export interface SparseMap {
  readonly size: number;
  readonly stretches: readonly Stretch[];
}

/** Reads the next tar block that belongs to the map. */
type ReadBlock = () => Promise<Buffer>;

/** More stretches than any tool writes are an attack on our memory. */
const maxStretches = 1_000_000;

/** True when there may be a map to read. */
export function hasSparseMap(header: TarHeader, { records }: ParsedPax): boolean {
  if (header.type === 'S') return true;
  return records.size > 0 && [...records.keys()].some((key) => key.startsWith('GNU.sparse.'));
}

/**
 * The map of a sparse file in the GNU formats “old”, 0.0, 0.1 and 1.0 (GNU tar
 * manual, “Storing Sparse Files”), or undefined for a plain file. Formats old
 * and 1.0 keep (parts of) the map in front of the data.
 */
export async function readSparseMap(
  header: TarHeader,
  { records, sparsePairs }: ParsedPax,
  readBlock: ReadBlock,
): Promise<SparseMap | undefined> {
  if (header.type === 'S') return oldGnuMap(header.block, readBlock);
  if (records.get('GNU.sparse.major') === '1' && records.get('GNU.sparse.minor') === '0') {
    return sparseMap(await readVersion1(readBlock), paxInteger(records, 'GNU.sparse.realsize'));
  }
  const map = records.get('GNU.sparse.map');
  const size = paxInteger(records, 'GNU.sparse.size');
  if (map !== undefined && map !== '') return sparseMap(map.split(',').map(decimal), size);
  if (records.has('GNU.sparse.numblocks')) return sparseMap(sparsePairs.map(decimal), size);
  if (records.has('GNU.sparse.major')) throw new LayerRefusal('is a sparse file in an unknown format');
  return undefined;
}

/** Four pairs in the header, then blocks of 21 as long as the flag says so. */
async function oldGnuMap(header: Buffer, readBlock: ReadBlock): Promise<SparseMap> {
  const numbers = octalPairs(header, 386, 4);
  const size = number(header, 483, 12, 'size');
  let hasMore = header[482] === 1;
  while (hasMore) {
    const block = await readBlock();
    numbers.push(...octalPairs(block, 0, 21));
    limit(numbers.length / 2);
    hasMore = block[504] === 1;
  }
  return sparseMap(numbers, size);
}

function octalPairs(block: Buffer, offset: number, count: number): number[] {
  const numbers: number[] = [];
  for (let index = 0; index < count; index++) {
    const at = offset + index * 24;
    if ((block[at] ?? 0) === 0) break;
    numbers.push(number(block, at, 12, 'sparse offset'), number(block, at + 12, 12, 'sparse length'));
  }
  return numbers;
}

/** Decimal lines at the start of the data, padded to a tar block: the count, then the pairs. */
async function readVersion1(readBlock: ReadBlock): Promise<number[]> {
  const numbers: number[] = [];
  let wanted = 1;
  let rest = '';
  while (numbers.length < wanted) {
    const lines = (rest + (await readBlock()).toString('latin1')).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (numbers.length === wanted) break;
      numbers.push(decimal(line));
      if (numbers.length === 1) wanted = 1 + 2 * limit(numbers[0] ?? 0);
    }
    if (rest.length > 40 && numbers.length < wanted) throw damaged();
  }
  return numbers.slice(1);
}

function sparseMap(numbers: readonly number[], size: number | undefined): SparseMap {
  if (size === undefined || numbers.length % 2 !== 0) throw damaged();
  limit(numbers.length / 2);
  const stretches: Stretch[] = [];
  let end = 0;
  for (let index = 0; index < numbers.length; index += 2) {
    const stretch = { offset: numbers[index] ?? 0, length: numbers[index + 1] ?? 0 };
    if (stretch.offset < end || stretch.length < 0) throw damaged();
    end = stretch.offset + stretch.length;
    if (end > size) throw damaged();
    // GNU tar ends the map with an empty stretch when the file ends in a hole.
    if (stretch.length > 0) stretches.push(stretch);
  }
  return { size, stretches };
}

function decimal(text: string): number {
  const value = Number(text);
  if (!/^[0-9]+$/.test(text) || !Number.isSafeInteger(value)) throw damaged();
  return value;
}

function limit(count: number): number {
  if (count > maxStretches) throw new LayerRefusal(`is a sparse file in more than ${maxStretches} parts`);
  return count;
}

function damaged(): LayerRefusal {
  return new LayerRefusal('is a sparse file with a damaged map');
}
