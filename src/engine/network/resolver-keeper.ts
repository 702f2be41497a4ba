import { errorText } from '../../errors.ts';
import { hostResolvers, readHostResolvers, updateResolvers } from '../../host/drivers/qemu-root.ts';
import { vmPaths } from '../../state/layout.ts';
import { listVms } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';

/** About as often as a QEMU that sees the host's own file looks at it. */
const lookEveryMs = 1_000;
/** A VM that starts just then may have read what was there before, and write it after us. */
const rounds = 2;

/**
 * Keeps what VMMs in a root directory of their own look up names by as the host has it now: it moves to other networks
 * while VMs run. Looked at, and not listened to: the file may be a link to one that is replaced, or mounted from where
 * nothing is told to us when it changes.
 */
export class ResolverKeeper {
  readonly #context: Pick<EngineContext, 'db' | 'layout' | 'log'>;
  readonly #path: string;
  #told: string | undefined;
  #roundsLeft = 0;
  #hasFailed = false;
  #isLooking = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(context: Pick<EngineContext, 'db' | 'layout' | 'log'>, path = hostResolvers) {
    this.#context = context;
    this.#path = path;
  }

  /** Only VMMs of root's have such a directory. */
  start(everyMs = lookEveryMs): void {
    if (process.getuid!() !== 0) return;
    this.#timer = setInterval(() => void this.look(), everyMs).unref();
    void this.look();
  }

  close(): void {
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
