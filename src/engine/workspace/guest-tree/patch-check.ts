import { BangerError } from '../../../errors.ts';
import { startChildStream, type ChildStream } from '../../../host/child-stream.ts';
import { isOutOfMemory } from '../../../host/memory-limit.ts';
import { displayPath, splitRaw, type RawPath } from '../host-tree/raw-path.ts';
import { collectErrors } from './guest-changes.ts';
import { mirrorEnvironment } from './mirror.ts';

/** Git reads all of a patch into memory. */
const mostCheckedBytes = 64 * 1024 * 1024;
/** A megabyte can say that it is a gigabyte of zeros, or be half a million files. */
const maxMemoryBytes = 512 * 1024 * 1024;

const notCompared =
  'The patch is too large to be compared with the list of changed files: look at what it changes';

/**
 * Has git on this host say which files a guest's patch changes, while it comes: whoever looks at the list of changes is
 * to get a patch of these. Nothing is applied, and no repository is read.
 */
export class PatchCheck {
  readonly #vmName: string;
  readonly #signal: AbortSignal;
  #git: ChildStream | undefined;
  #output: Promise<Buffer> | undefined;
  #errors: () => string = () => '';
  #bytes = 0;

  constructor(vmName: string, signal: AbortSignal) {
    this.#vmName = vmName;
    this.#signal = signal;
  }

  async push(piece: Buffer): Promise<void> {
    this.#bytes += piece.length;
    if (this.#bytes > mostCheckedBytes) return this.close();
    if (this.#bytes === piece.length) this.#start();
    const git = this.#git;
    if (!git || git.stdio.write(piece)) return;
    await Promise.race([new Promise((resolve) => git.stdio.once('drain', resolve)), git.exit]);
  }

  /** Throws unless the patch is of these files. Returns what is to be said when that is not known. */
  async end(paths: readonly RawPath[]): Promise<string[]> {
    if (this.#bytes > mostCheckedBytes) return [notCompared];
    const found = this.#bytes === 0 ? [] : await this.#paths();
    if (!found) return [notCompared];
    const patched = new Set(found);
    const listed = new Set(paths);
    const other =
      [...patched].find((path) => !listed.has(path)) ?? [...listed].find((path) => !patched.has(path));
    if (other === undefined) return [];
    throw tampered(`lists other files than its patch changes, as "${displayPath(other)}"`, this.#vmName);
  }

  /** Ends what was begun, if it is not over. */
  close(): void {
    this.#git?.close();
    this.#git = undefined;
  }

  #start(): void {
    const argv = ['git', 'apply', '--numstat', '-z', '-'] as const;
    const options = { cwd: '/', env: mirrorEnvironment(), signal: this.#signal, maxMemoryBytes };
    const git = startChildStream(argv, options);
    this.#errors = collectErrors(git);
    this.#git = git;
    this.#output = collect(git);
    this.#output.catch(() => undefined);
  }

  /** Undefined when it takes too much memory to know. */
  async #paths(): Promise<RawPath[] | undefined> {
    const git = this.#git!;
    git.stdio.end();
    const [output, { code }] = await Promise.all([this.#output!, git.exit]);
    if (code !== 0 && isOutOfMemory(this.#errors())) return undefined;
    if (code !== 0) throw tampered('answered with something that is not a patch', this.#vmName);
    return splitRaw(output).map((line) => line.replace(/^(?:\d+|-)\t(?:\d+|-)\t/, ''));
  }
}

async function collect({ stdio }: ChildStream): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const chunks = stdio.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
  for await (const chunk of chunks) pieces.push(chunk);
  return Buffer.concat(pieces);
}

export function tampered(what: string, vmName: string): BangerError {
  return new BangerError('command_failed', `VM "${vmName}" ${what}; nothing of it is taken`, {
    hint: 'Do not trust what is in that VM: its git has been tampered with',
  });
}
