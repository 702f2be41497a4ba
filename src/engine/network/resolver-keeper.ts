import { realpathSync, watch, type FSWatcher } from 'node:fs';
import { basename, dirname } from 'node:path';
import { errorText } from '../../errors.ts';
import { hostResolvers, readHostResolvers, updateResolvers } from '../../host/drivers/own-resolvers.ts';
import { vmPaths } from '../../state/layout.ts';
import { listVms } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';

/** For files that change where nothing is told, such as mounted ones: an engine at rest hardly wakes up. */
const lookEveryMs = 60_000;
/** Whoever writes the file does it in several steps. */
const settleMs = 100;
/** A VM that starts just then may have read what was there before, and write it after us. */
const rounds = 2;
const againMs = 1_000;

/**
 * Keeps what VMMs in a root directory of their own look up names by as the host has it now: it moves to other networks
 * while VMs run. The kernel tells of changes of the file, of links to it, and of what replaces it; now and then it is looked
 * at all the same.
 */
export class ResolverKeeper {
  readonly #context: Pick<EngineContext, 'db' | 'layout' | 'log'>;
  readonly #path: string;
  #told: string | undefined;
  #roundsLeft = 0;
  #hasFailed = false;
  #isLooking = false;
  #timer: NodeJS.Timeout | undefined;
  #settling: NodeJS.Timeout | undefined;
  #watchers: FSWatcher[] = [];

  constructor(context: Pick<EngineContext, 'db' | 'layout' | 'log'>, path = hostResolvers) {
    this.#context = context;
    this.#path = path;
  }

  /** Only VMMs of root's have such a directory. */
  start(everyMs = lookEveryMs): void {
    if (process.getuid!() !== 0) return;
    this.#timer = setInterval(() => void this.look(), everyMs).unref();
    this.#watch();
    void this.look();
  }

  /** The file itself, and the directories of the name and of what it leads to: a new file may take the place of either. */
  #watch(): void {
    for (const watcher of this.#watchers) watcher.close();
    this.#watchers = [];
    const places = new Set([dirname(this.#path)]);
    try {
      const file = realpathSync(this.#path);
      places.add(dirname(file)).add(file);
    } catch {
      // It is not there, or leads to nothing yet: its directory tells when that changes.
    }
    for (const place of places) {
      try {
        const watcher = watch(place, { persistent: false }, (_event, name) => {
          if (name === null || place !== dirname(this.#path) || name === basename(this.#path)) this.#soon();
        });
        watcher.on('error', () => watcher.close());
        this.#watchers.push(watcher);
      } catch {
        // No more files can be watched on this host: the timer looks.
      }
    }
  }

  #soon(): void {
    this.#settling ??= setTimeout(() => {
      this.#settling = undefined;
      if (!this.#timer) return;
      this.#watch();
      void this.look();
      setTimeout(() => void this.look(), againMs).unref();
    }, settleMs).unref();
  }

  close(): void {
    clearTimeout(this.#settling);
    for (const watcher of this.#watchers) watcher.close();
    this.#watchers = [];
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Tells the VMMs when there is something new to tell. What cannot be written now is tried again at the next look. */
  async look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    try {
      const text = await readHostResolvers(this.#path);
      if (text !== this.#told) this.#roundsLeft = rounds;
      if (this.#roundsLeft === 0 || !this.#context.db.open) return;
      await this.#tell(text);
      this.#told = text;
      this.#roundsLeft--;
      this.#hasFailed = false;
    } catch (error) {
      if (!this.#hasFailed)
        this.#context.log('warn', `guests may not find names: ${errorText(error)}`, { file: this.#path });
      this.#hasFailed = true;
    } finally {
      this.#isLooking = false;
    }
  }

  /** All of them, also when one of them cannot be told. */
  async #tell(text: string): Promise<void> {
    const { db, layout } = this.#context;
    const live = listVms(db).filter(({ state, network }) => state !== 'stopped' && network === 'user');
    const told = live.map(({ id }) => updateResolvers(vmPaths(layout, id).vmmLog, text));
    const failed = (await Promise.allSettled(told)).find((outcome) => outcome.status === 'rejected');
    if (failed) throw failed.reason;
  }
}
