import { BangerError } from '../../../errors.ts';
import {
  impossiblePath,
  isUnderWay,
  parseChanges,
  type ParsedChanges,
  type UnderWay,
} from './changes-format.ts';
import { PatchFilter } from './patch-filter.ts';
import { isTreePath, unquotedPath, type RawPath } from '../host-tree/raw-path.ts';

/** A list longer than this is refused: some 500,000 files. */
const maxListBytes = 64 * 1024 * 1024;

/**
 * Takes apart what `changesScript` prints, as it comes: the list of changes is kept, the patch handed on. Changes of
 * repositories inside the workspace are left out of the patch, where they would be names of commits and no content.
 */
export class ChangesReader {
  readonly #onPatch: (piece: Buffer) => Promise<void>;
  /** The list as far as it has come; absent when it is complete */
  #list: Buffer[] | undefined = [];
  #listBytes = 0;
  #changes: ParsedChanges | undefined;
  #filter: PatchFilter | undefined;

  constructor(onPatch: (piece: Buffer) => Promise<void>) {
    this.#onPatch = onPatch;
  }

  async push(chunk: Buffer): Promise<void> {
    if (!this.#list) return this.#pushPatch(chunk);
    this.#list.push(chunk);
    this.#listBytes += chunk.length;
    // Only what is new can end it, together with the byte before.
    const recent = Buffer.concat([this.#list.at(-2)?.subarray(-1) ?? Buffer.alloc(0), chunk]);
    const end = recent.indexOf('\n\n');
    if (end < 0) {
      if (this.#listBytes > maxListBytes)
        throw new BangerError('command_failed', 'The guest lists more changes than can be taken');
      return;
    }
    const all = Buffer.concat(this.#list);
    const length = all.length - recent.length + end + 1;
    this.#finishList(all.subarray(0, length));
    await this.#pushPatch(all.subarray(length + 1));
  }

  /** The list of changes, when all of it has come; undefined when it is something else. */
  async end(): Promise<ParsedChanges | undefined> {
    if (this.#list) this.#finishList(Buffer.concat(this.#list));
    if (this.#filter) await this.#hand(this.#filter.end());
    return this.#changes;
  }

  #finishList(list: Buffer): void {
    this.#list = undefined;
    this.#changes = parseOutput(list);
    if (this.#changes && this.#changes.nested.length > 0) this.#filter = new PatchFilter();
  }

  async #pushPatch(chunk: Buffer): Promise<void> {
    // What follows no list is nothing to hand on.
    if (!this.#changes) return;
    await this.#hand(this.#filter ? this.#filter.push(chunk) : chunk);
  }

  async #hand(piece: Buffer): Promise<void> {
    if (piece.length > 0) await this.#onPatch(piece);
  }
}

/** Names of repositories that have changes of their own, what else is to be said, a dot, then git's list. */
function parseOutput(output: Buffer): ParsedChanges | undefined {
  const text = output.toString('latin1');
  const end = text.startsWith('.\n') ? 0 : text.indexOf('\n.\n') + 1;
  if (end === 0 && !text.startsWith('.\n')) return undefined;
  const dirty = new Set<RawPath>();
  const unresolved = new Set<RawPath>();
  const underWay = new Set<UnderWay>();
  for (const line of text.slice(0, end).split('\n').slice(0, -1)) {
    const [, mark, rest] = /^(\.\/\/?)?([^]*)$/.exec(line)!;
    if (mark === './') {
      if (!isUnderWay(rest!)) return undefined;
      underWay.add(rest);
      continue;
    }
    const path = unquotedPath(rest!);
    if (path === undefined) return undefined;
    if (!isTreePath(path)) throw impossiblePath(path);
    (mark === undefined ? dirty : unresolved).add(path);
  }
  const changes = parseChanges(output.subarray(end + 2));
  if (!changes) return undefined;
  const nested = [...new Set([...changes.nested, ...dirty])];
  return { ...changes, nested, underWay: [...underWay], unresolved: [...unresolved] };
}
