import { abortError, errnoOf } from '../../../errors.ts';
import type { RawPath } from '../host-tree/raw-path.ts';
import { collectErrors } from '../guest-tree/guest-changes.ts';
import type { GuestProcess } from '../../guest.ts';
import type { GuestPlace } from './send-tree.ts';
import { carryOutScript, carryOutTimeoutMs, notCarriedOut } from './send-update.ts';
import { updateNames } from './update-script.ts';

/**
 * All that a small update asks of a guest, by one program: whether anything seems to have happened there, what is at
 * the paths that change, and to carry it out. It reads what comes next when the host knows that itself, and ends when
 * there is no more to read.
 *
 * Parameters: workspace, token of the last sending, length of the list of directories. What is newer than the mark, or
 * has come or gone in a directory that was sent, has been touched; what is ignored in directories of its own is not
 * looked at. That is no proof: of the paths that are to change `stat` tells what is there.
 */
const exchangeScript = `
cd "$1" 2>/dev/null || exit 0
[ ! -e ${updateNames.archive} ] && [ ! -e .git/index.lock ] && [ -f ${updateNames.clean} ] || exit 0
read -r sent <${updateNames.sent} && [ "$sent" = "$2" ] || exit 0
newer=$(head -c "$3" | xargs -0 sh -c 'exec find "$@" -maxdepth 1 -name .git -prune -o \\( ! -type d -o -path "*/" \\) -newer ${updateNames.clean} -print -quit' find) || exit 0
[ -z "$newer" ] || exit 0
echo untouched
read -r bytes count || exit 0
set --
while [ "$count" -gt 0 ]; do
  IFS= read -r path || exit 0
  set -- "$@" "$path"
  count=$((count - 1))
done
head -c "$bytes" | gunzip -c >${updateNames.part} || exit
stat -c '%f %s %Y %Z %n' -- ${updateNames.clean} "$@" 2>/dev/null
echo arrived
if ! read -r word || [ "$word" != go ]; then
  rm -f ${updateNames.part}
  exit 0
fi
set -- .
${carryOutScript}`;

/** What a guest has at a path. */
export interface FoundThere {
  /** Type and permissions, as `st_mode` has them */
  readonly mode: number;
  readonly sizeBytes: number;
  readonly mtimeSeconds: number;
  readonly ctimeSeconds: number;
}

/** What a guest has at the paths of an update. */
export interface FoundPaths {
  /** Of the mark that says when the workspace was as it was sent */
  readonly mark: FoundThere;
  /** Absent where nothing is */
  readonly paths: ReadonlyMap<RawPath, FoundThere>;
}

export interface Known {
  readonly token: string;
  /** Those that were sent, the top one included */
  readonly directories: readonly RawPath[];
}

/** A small update under way, by one program in the guest. It is closed by whoever opened it. */
export class QuickExchange {
  readonly #place: GuestPlace;
  readonly #process: GuestProcess;
  readonly #stderr: () => string;
  readonly #lines: AsyncIterator<string>;
  readonly #stop: AbortController;
  #isEnded = false;

  private constructor(place: GuestPlace, process: GuestProcess, stop: AbortController) {
    this.#place = place;
    this.#process = process;
    this.#stop = stop;
    this.#stderr = collectErrors(process);
    this.#lines = linesOf(process);
  }

  /** Starts the program. It goes on when the operation is cancelled: that is for `close`. */
  static async open(place: GuestPlace, { token, directories }: Known): Promise<QuickExchange> {
    const stop = new AbortController();
    // The slash tells them from directories in them that were not sent.
    const names = directories.map((path) => (path === '' ? './\0' : `./${path}/\0`));
    const list = Buffer.from(names.join(''), 'latin1');
    const { guest, guestPath } = place;
    const words = ['sh', '-c', exchangeScript, 'banger', guestPath, token, String(list.length)];
    const process = await guest.spawnToolbox(words, { signal: stop.signal });
    process.stdio.on('error', () => undefined);
    process.stdio.write(list);
    return new QuickExchange(place, process, stop);
  }

  /** Whether nothing seems to have happened in the workspace since it was sent. */
  async isUntouched(signal: AbortSignal): Promise<boolean> {
    return (await this.#next(signal)) === 'untouched';
  }

  /** Sends an archive beside the workspace, and tells what is at some paths (without line breaks); undefined when the guest gave up. */
  async offer(
    archive: Buffer,
    paths: readonly RawPath[],
    signal: AbortSignal,
  ): Promise<FoundPaths | undefined> {
    const head = `${archive.length} ${paths.length}\n${paths.map((path) => `./${path}\n`).join('')}`;
    this.#process.stdio.write(Buffer.concat([Buffer.from(head, 'latin1'), archive]));
    const found = new Map<RawPath, FoundThere>();
    for (;;) {
      const line = await this.#next(signal);
      if (line === undefined) return undefined;
      if (line === 'arrived') break;
      const [, mode, size, mtime, ctime, path] =
        /^([0-9a-f]{1,8}) (\d{1,15}) (-?\d{1,12}) (-?\d{1,12}) (.+)$/.exec(line) ?? [];
      if (path === undefined) return undefined;
      found.set(path, {
        mode: parseInt(mode!, 16),
        sizeBytes: Number(size),
        mtimeSeconds: Number(mtime),
        ctimeSeconds: Number(ctime),
      });
    }
    const mark = found.get(updateNames.clean);
    const there = [...found].filter(([path]) => path.startsWith('./'));
    return mark && { mark, paths: new Map(there.map(([path, each]) => [path.slice('./'.length), each])) };
  }

  /** Puts what was sent in place. From here on nobody cancels it. */
  async carryOut(): Promise<void> {
    const timeout = AbortSignal.timeout(carryOutTimeoutMs);
    timeout.addEventListener('abort', () => this.#stop.abort(abortError(timeout)), { once: true });
    this.#process.stdio.end('go\n');
    while ((await this.#next(timeout)) !== undefined);
    const exit = await this.#process.exit;
    this.#isEnded = true;
    if (exit.code === 0) return;
    throw notCarriedOut(this.#place, { exit, stdout: Buffer.alloc(0), stderr: this.#stderr() });
  }

  /** Ends the program, unless it has; what was sent beside the workspace goes with it. */
  async close(): Promise<void> {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#process.stdio.end();
    const patience = setTimeout(() => this.#stop.abort(), closeTimeoutMs);
    try {
      while (!(await this.#lines.next()).done);
      await this.#process.exit;
    } catch {
      // It is gone, which is what was wanted.
    }
    clearTimeout(patience);
  }

  /** Undefined when the program has ended. */
  async #next(signal: AbortSignal): Promise<string | undefined> {
    const aborted = Promise.withResolvers<never>();
    const onAbort = (): void => aborted.reject(abortError(signal));
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      const { done, value } = await Promise.race([this.#lines.next(), aborted.promise]);
      return done ? undefined : value;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }
}

/** How long a guest may take to take away what it was sent. */
const closeTimeoutMs = 5_000;
/** A guest that says more without a line break says nothing of ours. */
const maxLineBytes = 64 * 1024;

async function* linesOf(process: GuestProcess): AsyncGenerator<string, undefined> {
  let rest = '';
  try {
    for await (const chunk of process.stdio.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      const lines = (rest + chunk.toString('latin1')).split('\n');
      rest = lines.pop()!;
      if (rest.length > maxLineBytes) return undefined;
      yield* lines;
    }
  } catch (error) {
    // A connection that is lost ends the stream first; how it was lost is told here.
    if (errnoOf(error) !== 'ERR_STREAM_PREMATURE_CLOSE') throw error;
    await process.exit;
  }
  return undefined;
}
