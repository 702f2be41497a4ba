import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError } from '../errors.ts';
import type { ExportHead } from '../engine/rpc/workspace-methods.ts';
import { saveDirectory } from './save-directory.ts';

interface MailEnds {
  readonly output: (piece: Buffer, head: ExportHead) => Promise<void>;
}

/** Writes each commit's mail to a file of its own in a directory, which appears when all are there. */
export async function saveMails(
  directory: string,
  receive: (ends: MailEnds) => Promise<ExportHead>,
): Promise<{ readonly head: ExportHead; readonly files: readonly string[] }> {
  return saveDirectory(directory, async (written) => {
    const split = new MailSplitter(written);
    try {
      const head = await receive({ output: (piece, about) => split.push(piece, about) });
      return { head, files: (await split.end(head)).map((name) => join(directory, name)) };
    } finally {
      await split.close();
    }
  });
}

/**
 * Splits an mbox where the next commit begins. The line that a mail begins with could stand in the text of another, but
 * not with the name of a commit that comes after it.
 */
class MailSplitter {
  readonly #directory: string;
  readonly #names: string[] = [];
  /** What may be the beginning of the next mail's first line */
  #rest: Buffer = Buffer.alloc(0);
  #file: FileHandle | undefined;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async push(piece: Buffer, { commits = [] }: ExportHead): Promise<void> {
    let text = Buffer.concat([this.#rest, piece]);
    for (;;) {
      const next = commits[this.#names.length];
      const first = this.#names.length === 0;
      const mark = next && Buffer.from(`${first ? '' : '\n'}From ${next.oid} `);
      const at = mark ? text.indexOf(mark) : -1;
      if (at < 0) {
        const kept = mark ? Math.min(mark.length, text.length) : 0;
        await this.#write(text.subarray(0, text.length - kept));
        this.#rest = Buffer.from(text.subarray(text.length - kept));
        return;
      }
      const begin = first ? at : at + 1;
      await this.#write(text.subarray(0, begin));
      await this.#begin(mailName(this.#names.length + 1, next!.subject));
      // Not to be found again.
      await this.#write(text.subarray(begin, begin + 5));
      text = text.subarray(begin + 5);
    }
  }

  async end({ commits = [] }: ExportHead): Promise<string[]> {
    await this.#write(this.#rest);
    if (this.#names.length === commits.length) return this.#names;
    throw new BangerError(
      'command_failed',
      `The VM sent ${this.#names.length} mails for ${commits.length} commits`,
      {
        hint: 'Look at what it sends with: banger workspace export --commits | less',
      },
    );
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }

  async #begin(name: string): Promise<void> {
    await this.close();
    this.#names.push(name);
    this.#file = await open(join(this.#directory, name), 'wx');
  }

  /** Nothing comes before the first mail. */
  async #write(bytes: Buffer): Promise<void> {
    if (bytes.length > 0) await this.#file?.writeFile(bytes);
  }
}

/** A name as git's: the number, then what the subject has of letters, digits, dots and underscores. */
export function mailName(number: number, subject: string): string {
  const words = subject
    .replace(/[^A-Za-z0-9._]+/g, '-')
    .replace(/\.{2,}/g, '.')
    .replace(/^[-.]+/, '')
    .slice(0, 52)
    .replace(/[-.]+$/, '');
  return `${String(number).padStart(4, '0')}${words === '' ? '' : `-${words}`}.patch`;
}
