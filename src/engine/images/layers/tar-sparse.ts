import { NumberList } from '../ext4/number-list.ts';
import type { Stretch, Stretches } from '../ext4/stretches.ts';
import { LayerRefusal } from './layer-refusal.ts';
import { number, type TarHeader } from './tar-header.ts';
import { type ParsedPax, paxInteger } from './tar-pax.ts';

/** A sparse file: its size, and the stretches whose bytes the archive has, one after the other. */
export interface SparseMap {
  readonly size: number;
  readonly stretches: Stretches;
}

/** A million stretches as objects would take some 100 MB. */
class StretchList implements Stretches {
  /** Offset and length of each in turn */
  readonly #numbers: NumberList;

  constructor(numbers: NumberList) {
    this.#numbers = numbers;
  }

  get length(): number {
    return this.#numbers.length / 2;
  }

  *[Symbol.iterator](): Iterator<Stretch> {
    for (let index = 0; index < this.#numbers.length; index += 2)
      yield { offset: this.#numbers.at(index), length: this.#numbers.at(index + 1) };
  }
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
  if (map !== undefined && map !== '') return sparseMap(decimals(map.split(',')), size);
  if (records.has('GNU.sparse.numblocks')) return sparseMap(decimals(sparsePairs), size);
  if (records.has('GNU.sparse.major')) throw new LayerRefusal('is a sparse file in an unknown format');
  return undefined;
}

/** Four pairs in the header, then blocks of 21 as long as the flag says so. */
async function oldGnuMap(header: Buffer, readBlock: ReadBlock): Promise<SparseMap> {
  const numbers = new NumberList();
  addOctalPairs(numbers, header, { offset: 386, count: 4 });
  const size = number(header, 483, 12, 'size');
  let hasMore = header[482] === 1;
  while (hasMore) {
    const block = await readBlock();
    addOctalPairs(numbers, block, { offset: 0, count: 21 });
    limit(numbers.length / 2);
    hasMore = block[504] === 1;
  }
  return sparseMap(numbers, size);
}

function addOctalPairs(
  numbers: NumberList,
  block: Buffer,
  { offset, count }: { readonly offset: number; readonly count: number },
): void {
  for (let index = 0; index < count; index++) {
    const at = offset + index * 24;
    if ((block[at] ?? 0) === 0) break;
    numbers.push(number(block, at, 12, 'sparse offset'));
    numbers.push(number(block, at + 12, 12, 'sparse length'));
  }
}

/** Decimal lines at the start of the data, padded to a tar block: the count, then the pairs. */
async function readVersion1(readBlock: ReadBlock): Promise<NumberList> {
  let numbers = new NumberList();
  let wanted: number | undefined;
  let rest = '';
  while (wanted === undefined || numbers.length < wanted) {
    const lines = (rest + (await readBlock()).toString('latin1')).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (numbers.length === wanted) break;
      const value = decimal(line);
      if (wanted === undefined) numbers = new NumberList((wanted = 2 * limit(value)));
      else numbers.push(value);
    }
    if (rest.length > 40 && numbers.length !== wanted) throw damaged();
  }
  return numbers;
}

function sparseMap(numbers: NumberList, size: number | undefined): SparseMap {
  if (size === undefined || numbers.length % 2 !== 0) throw damaged();
  limit(numbers.length / 2);
  let end = 0;
  let kept = 0;
  for (let index = 0; index < numbers.length; index += 2) {
    const offset = numbers.at(index);
    const length = numbers.at(index + 1);
    if (offset < end || length < 0) throw damaged();
    end = offset + length;
    if (end > size) throw damaged();
    // GNU tar ends the map with an empty stretch when the file ends in a hole.
    if (length === 0) continue;
    numbers.set(kept++, offset);
    numbers.set(kept++, length);
  }
  numbers.truncate(kept);
  return { size, stretches: new StretchList(numbers) };
}

function decimals(texts: readonly string[]): NumberList {
  const numbers = new NumberList();
  for (const text of texts) numbers.push(decimal(text));
  return numbers;
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
