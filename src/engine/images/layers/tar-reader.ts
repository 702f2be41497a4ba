import { ByteReader } from './byte-reader.ts';
import { storedBytes } from '../ext4/stretches.ts';
import { LayerRefusal } from './layer-refusal.ts';
import { entryOf, typeOf, type Contents, type TarEntry, type TarEntryType } from './tar-entry.ts';
import { parseTarHeader, tarBlockSize, type TarHeader } from './tar-header.ts';
import { parsePax, type ParsedPax, paxInteger } from './tar-pax.ts';
import { hasSparseMap, readSparseMap } from './tar-sparse.ts';

const noContents: Contents = { size: 0, stretches: [] };
const noPax: ParsedPax = { records: new Map(), sparsePairs: [], count: 0 };
/** Extended headers and long names are held in memory: so many bytes in front of one entry. */
const maxExtensionBytes = 1024 * 1024;

/** For a look at a file's first entry in the engine's own thread, where nobody waits for much of it. */
export const firstLook = { extensionBytes: 64 * 1024 };

/** In front of one entry: four kinds make sense, and headers alone must not keep a reader busy for ever. */
const maxExtensions = 100;
/** Records of extended headers cost time, each as much as a short entry: so many for each entry, and as many as that once. */
const recordsPerEntry = 16;
const freeRecords = 1_000_000;
/** Records of a global header hold for every entry that follows, and so cost each of them time. Tools write a few. */
const maxGlobalRecords = 100;

/**
 * Reads a tar stream: ustar, pax, GNU and star.
 *
 * Our own, because node-tar's parser drops pax xattrs and GNU sparse maps and
 * turns names into UTF-8 strings, which not all names are.
 */
export class TarReader {
  readonly #bytes: ByteReader;
  #entry: TarEntry | undefined;
  /** Data of the current entry that was not read, and its padding */
  #left = 0;
  #padding = 0;
  #globals: ParsedPax = noPax;
  #path: string | undefined;
  #previousPath: string | undefined;
  #hasBegun = false;
  readonly #maxExtensionBytes: number;
  /** Of extended headers since the last entry */
  #extensionBytes = 0;
  #records = 0;
  #entries = 0;

  /** `extensionBytes` is how much may be in the extended headers of one entry. */
  constructor(source: AsyncIterable<Buffer>, { extensionBytes = maxExtensionBytes } = {}) {
    this.#bytes = new ByteReader(source);
    this.#maxExtensionBytes = extensionBytes;
  }

  /** Where it is, for errors: the path of the entry it is at, or else of the one before. */
  get place(): { readonly at?: string | undefined; readonly after?: string | undefined } {
    return this.#path === undefined ? { after: this.#previousPath } : { at: this.#path };
  }

  /** The next entry, or undefined at the end of the archive. Data of the previous one is skipped. */
  async next(): Promise<TarEntry | undefined> {
    const rest = this.#left + this.#padding;
    const skipped = this.#bytes.skipAtHand(rest);
    if (skipped < rest) await this.#skip(rest - skipped);
    this.#left = 0;
    this.#padding = 0;
    this.#previousPath = this.#path ?? this.#previousPath;
    this.#path = undefined;
    this.#extensionBytes = 0;
    this.#entries++;
    let pax: ParsedPax | undefined;
    let longPath: string | undefined;
    let longLink: string | undefined;
    for (let extensions = 0; ; extensions++) {
      if (extensions > maxExtensions)
        throw new LayerRefusal(`has more than ${maxExtensions} extended headers in a row`);
      const block = this.#bytes.atHand(tarBlockSize);
      const header = block && !isZero(block) ? parseTarHeader(block) : await this.#header(block);
      if (!header) {
        if (pax ?? longPath ?? longLink) throw new LayerRefusal('ends after an extended header');
        // What is wrong from here on is about the whole layer.
        this.#previousPath = undefined;
        return undefined;
      }
      switch (header.type) {
        case 'x':
          pax = this.#counted(parsePax(await this.#extension(header)));
          continue;
        case 'g':
          this.#globals = this.#counted(parseGlobals(await this.#extension(header)));
          continue;
        case 'L':
          longPath = withoutZeros(await this.#extension(header));
          continue;
        case 'K':
          longLink = withoutZeros(await this.#extension(header));
          continue;
        // A volume label
        case 'V':
          await this.#extension(header);
          continue;
      }
      const merged = this.#merged(pax);
      const type = this.#begin(header, merged, longPath);
      const contents =
        type === 'file' && hasSparseMap(header, merged)
          ? await this.#sparseContents(header, merged)
          : { size: this.#left, stretches: [{ offset: 0, length: this.#left }] };
      this.#entry = entryOf(type, this.#path ?? '', {
        header,
        pax: merged,
        longLink,
        contents: type === 'file' ? contents : noContents,
      });
      return this.#entry;
    }
  }

  /** Passes the data of the current entry on, each piece with its offset in the file. What `visit` returns is waited for. */
  async body(visit: (offset: number, data: Buffer) => Promise<void> | undefined): Promise<void> {
    for (const stretch of this.#entry?.stretches ?? []) {
      for (let done = 0; done < stretch.length;) {
        const wanted = stretch.length - done;
        const data = this.#bytes.someAtHand(wanted) ?? (await this.#bytes.some(wanted));
        if (!data) throw truncated();
        this.#left -= data.length;
        const visited = visit(stretch.offset + done, data);
        if (visited) await visited;
        done += data.length;
      }
    }
  }

  /** Reads on behind the end of the archive: the digest of a layer covers that too. */
  async drain(): Promise<void> {
    while (await this.#bytes.some(Infinity));
  }

  async close(): Promise<void> {
    await this.#bytes.close();
  }

  /** Undefined at the end mark, and where the stream ends between two entries (some writers leave out the mark). */
  async #header(atHand: Buffer | undefined): Promise<TarHeader | undefined> {
    const block = atHand ?? (await this.#bytes.upTo(tarBlockSize));
    if (block.length === 0) return undefined;
    if (block.length < tarBlockSize) {
      // Less than one block in all is not even the beginning of a tar.
      throw this.#hasBegun ? truncated() : new LayerRefusal('is not a tar file');
    }
    this.#hasBegun = true;
    if (!isZero(block)) return parseTarHeader(block);
    const second = await this.#bytes.upTo(tarBlockSize);
    if (second.length === 0 || isZero(second)) return undefined;
    throw new LayerRefusal('is a damaged tar file: data after half an end mark');
  }

  async #extension(header: TarHeader): Promise<Buffer> {
    this.#extensionBytes += header.size;
    if (header.size < 0 || this.#extensionBytes > this.#maxExtensionBytes) {
      throw new LayerRefusal(`has an extended header of ${this.#extensionBytes} bytes`);
    }
    // A copy: reading on takes its memory away.
    const data = Buffer.from(await this.#exactly(header.size));
    await this.#skip(paddingOf(header.size));
    return data;
  }

  #counted(pax: ParsedPax): ParsedPax {
    this.#records += pax.count;
    if (this.#records > freeRecords + recordsPerEntry * this.#entries)
      throw new LayerRefusal(`has ${this.#records} records in its extended headers and those before`);
    return pax;
  }

  #merged(pax: ParsedPax | undefined): ParsedPax {
    if (this.#globals.records.size === 0) return pax ?? noPax;
    if (!pax) return this.#globals;
    return { ...pax, records: new Map([...this.#globals.records, ...pax.records]) };
  }

  /** Takes down what an entry is called and how much data it has in the archive. */
  #begin(header: TarHeader, { records }: ParsedPax, longPath: string | undefined): TarEntryType {
    const path = records.get('GNU.sparse.name') || records.get('path') || longPath || header.path;
    this.#path = path;
    const type = typeOf(header, path);
    const storedSize = paxInteger(records, 'size') ?? header.size;
    if (storedSize < 0) throw new LayerRefusal('has a negative size');
    // As in Go's archive/tar: types without contents have no data, whatever their size field says.
    this.#left = type === 'file' || header.type === 'D' ? storedSize : 0;
    this.#padding = paddingOf(this.#left);
    return type;
  }

  async #sparseContents(header: TarHeader, pax: ParsedPax): Promise<Contents> {
    const isOldGnu = header.type === 'S';
    const sparse = await readSparseMap(header, pax, async () => {
      // Only format 1.0 counts its map as data.
      if (!isOldGnu) this.#left -= tarBlockSize;
      return this.#exactly(tarBlockSize);
    });
    if (!sparse) return { size: this.#left, stretches: [{ offset: 0, length: this.#left }] };
    if (storedBytes(sparse.stretches) !== this.#left)
      throw new LayerRefusal('is a sparse file with a map that does not match its data');
    return sparse;
  }

  async #exactly(length: number): Promise<Buffer> {
    const data = await this.#bytes.upTo(length);
    if (data.length < length) throw truncated();
    return data;
  }

  async #skip(length: number): Promise<void> {
    for (let left = length; left > 0;) {
      const data = await this.#bytes.some(left);
      if (!data) throw truncated();
      left -= data.length;
    }
  }
}

function parseGlobals(data: Buffer): ParsedPax {
  const globals = parsePax(data);
  const count = globals.records.size + globals.sparsePairs.length;
  if (count > maxGlobalRecords)
    throw new LayerRefusal(`has a global header with more than ${maxGlobalRecords} records`);
  return globals;
}

function paddingOf(size: number): number {
  return (tarBlockSize - (size % tarBlockSize)) % tarBlockSize;
}

function isZero(block: Buffer): boolean {
  return block.every((byte) => byte === 0);
}

function withoutZeros(data: Buffer): string {
  const text = data.toString('latin1');
  const end = text.indexOf('\0');
  return end === -1 ? text : text.slice(0, end);
}

function truncated(): LayerRefusal {
  return new LayerRefusal('is truncated');
}
