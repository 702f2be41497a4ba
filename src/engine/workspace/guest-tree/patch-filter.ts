import { BangerError } from '../../../errors.ts';

const firstLine = Buffer.from('diff --git ');
/** Two paths of the longest kind, each byte of them quoted, and what else is said of a file. */
const longestHeader = 64 * 1024;

/**
 * Leaves out of a patch what it says of repositories. No line of content begins as the first line of a file does.
 *
 * Lines of content have no bound, and come in thousands of pieces: they are handed on, or dropped, as they come, and
 * none is looked at twice.
 */
export class PatchFilter {
  /** Lines about the next file, until it is known to be one; absent in its content */
  #header: Buffer | undefined = Buffer.alloc(0);
  /** How much of them was looked at */
  #looked = 0;
  #isDropping = false;
  /** The beginning of a line of content that may be the first one of a file */
  #start: Buffer = Buffer.alloc(0);
  #isLineStart = true;

  push(chunk: Buffer): Buffer {
    const out: Buffer[] = [];
    for (let rest: Buffer | undefined = chunk; rest && rest.length > 0;)
      rest = this.#header ? this.#readHeader(rest, out) : this.#readContent(rest, out);
    return Buffer.concat(out);
  }

  end(): Buffer {
    const last = this.#isDropping ? Buffer.alloc(0) : this.#start;
    return Buffer.concat([this.#header ?? Buffer.alloc(0), last]);
  }

  /** Both return what is left to be read, by the other one. */
  #readHeader(chunk: Buffer, out: Buffer[]): Buffer | undefined {
    const header = this.#header!.length === 0 ? chunk : Buffer.concat([this.#header!, chunk]);
    for (let begin = this.#looked; ;) {
      const end = header.indexOf('\n', begin) + 1;
      if (end === 0) {
        this.#looked = begin;
        this.#header = header;
        if (header.length > longestHeader) throw noPatch();
        return undefined;
      }
      const line = header.toString('latin1', begin, Math.min(end, begin + 200));
      const isRepository = /^(?:new file mode|deleted file mode|index [0-9a-f]+\.\.[0-9a-f]+) 160000\n$/.test(
        line,
      );
      if (isRepository || /^(?:--- |GIT binary|@@)/.test(line)) {
        if (!isRepository) out.push(header.subarray(0, end));
        this.#isDropping = isRepository;
        this.#header = undefined;
        this.#isLineStart = true;
        return header.subarray(end);
      }
      if (begin > 0 && line.startsWith('diff --git ')) {
        // Nothing but another mode, or a file that is empty.
        out.push(header.subarray(0, begin));
        this.#header = Buffer.alloc(0);
        this.#looked = 0;
        return header.subarray(begin);
      }
      begin = end;
    }
  }

  #readContent(chunk: Buffer, out: Buffer[]): Buffer | undefined {
    const content = this.#start.length === 0 ? chunk : Buffer.concat([this.#start, chunk]);
    const isFirst = this.#isLineStart && content.subarray(0, firstLine.length).equals(firstLine);
    const next = isFirst ? 0 : content.indexOf(`\n${firstLine.toString('latin1')}`) + 1;
    if (isFirst || next > 0) {
      if (!this.#isDropping) out.push(content.subarray(0, next));
      this.#start = Buffer.alloc(0);
      this.#header = Buffer.alloc(0);
      this.#looked = 0;
      this.#isDropping = false;
      return content.subarray(next);
    }
    const line = content.lastIndexOf('\n') + 1;
    const isStart = line > 0 || this.#isLineStart;
    const left = content.subarray(line);
    const mayBeFirst =
      isStart && left.length < firstLine.length && firstLine.subarray(0, left.length).equals(left);
    this.#start = mayBeFirst ? Buffer.from(left) : Buffer.alloc(0);
    this.#isLineStart = mayBeFirst;
    if (!this.#isDropping) out.push(mayBeFirst ? content.subarray(0, line) : content);
    return undefined;
  }
}

function noPatch(): BangerError {
  return new BangerError('command_failed', 'The guest answered with something that is not a patch', {
    hint: 'Do not trust what is in that VM: its git has been tampered with',
  });
}
