import { statSync, watch, type FSWatcher } from 'node:fs';
import { dirname } from 'node:path';
import { errorText } from '../errors.ts';
import type { Log } from './log.ts';

/** For filesystems that tell nobody of changes: an engine at rest hardly wakes up. */
const lookEveryMs = 60_000;
/** Whoever cleans a directory takes one thing after the other. */
const settleMs = 100;

/**
 * Listens again where an engine's socket was removed, as all of a runtime directory is by whoever cleans temporary files, or
 * when the last session of a login ends: no client would find the engine any more, and no other could take its place.
 */
export class SocketWatch {
  readonly #socketPath: string;
  readonly #listenAgain: () => Promise<void>;
  readonly #log: Log;
  #inode: number | undefined;
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;
  #settling: NodeJS.Timeout | undefined;
  #isLooking = false;
  #hasFailed = false;

  constructor(socketPath: string, listenAgain: () => Promise<void>, log: Log) {
    this.#socketPath = socketPath;
    this.#listenAgain = listenAgain;
    this.#log = log;
  }

  start(everyMs = lookEveryMs): void {
    this.#inode = this.#found();
    this.#timer = setInterval(() => void this.look(), everyMs).unref();
    this.#watch();
  }

  close(): void {
    clearInterval(this.#timer);
    clearTimeout(this.#settling);
    this.#watcher?.close();
    this.#timer = undefined;
  }

  /** Makes it again when it is gone, or is another one's. What cannot be made now is tried again at the next look. */
  async look(): Promise<void> {
    const found = this.#found();
    if (!this.#timer || this.#isLooking || (found !== undefined && found === this.#inode)) return;
    this.#isLooking = true;
    try {
      await this.#listenAgain();
      this.#inode = this.#found();
      this.#hasFailed = false;
      this.#log('warn', 'the socket was gone, and is there again', { socket: this.#socketPath });
      this.#watch();
    } catch (error) {
      if (!this.#hasFailed)
        this.#log('error', `no client finds the engine: its socket is gone, and ${errorText(error)}`, {
          socket: this.#socketPath,
        });
      this.#hasFailed = true;
    } finally {
      this.#isLooking = false;
    }
  }

  #found(): number | undefined {
    return statSync(this.#socketPath, { throwIfNoEntry: false })?.ino;
  }

  #watch(): void {
    this.#watcher?.close();
    try {
      this.#watcher = watch(dirname(this.#socketPath), { persistent: false }, () => this.#soon());
      this.#watcher.on('error', () => this.#watcher?.close());
    } catch {
      // No more files can be watched on this host: the timer looks.
    }
  }

  #soon(): void {
    this.#settling ??= setTimeout(() => {
      this.#settling = undefined;
      void this.look();
    }, settleMs).unref();
  }
}
