import { readFile, rm } from 'node:fs/promises';
import * as z from 'zod/mini';
import { driverNames } from '../host/drivers/driver.ts';
import { writeFileAtomic } from '../host/files.ts';
import { failpoint } from './failpoints.ts';

/** What is true of a VM only while its VMM lives. Never in the database: it can always be found out again. */
const schema = z.object({
  process: z.object({ pid: z.int(), startTime: z.string(), bootId: z.string() }),
  acceleration: z.enum(['kvm', 'tcg']),
  driver: z.enum(driverNames),
  /** Why it was chosen; absent when that cannot be known */
  vmmReason: z.optional(z.string()),
  /** What this start gave the guest; the VM's row says what its next start will. Absent when it cannot be known. */
  cpus: z.optional(z.int()),
  memoryMib: z.optional(z.int()),
  diskBytes: z.optional(z.number()),
  hostname: z.optional(z.string()),
  /** Who its git was told that the user is, as a configuration file */
  gitIdentity: z.optional(z.string()),
  /** When the VM's time to live is over, in milliseconds of the host's monotonic clock; see stop-timers.ts */
  expiresAtMs: z.optional(z.number()),
  /** Address that the guest's SSH service is reached at; absent: the host's loopback, which leads there */
  sshHost: z.optional(z.string()),
  /** How far its VMM was told to let it reach when it started; see `Reach` */
  reach: z.optional(z.enum(['all', 'none'])),
  /** Which kind of policy its guest was last told of, at the start or later; absent: by an engine that did not note it */
  toldEgress: z.optional(z.enum(['all', 'rules'])),
  /** Port of the host's loopback that leads to the guest's SSH service, or the guest's own */
  sshPort: z.int(),
  /** What the guest's part of banger speaks; absent until the guest was ready, and when that cannot be known */
  guestProtocol: z.optional(z.int()),
  /** The guest kernel's boot id; absent until the guest was ready */
  guestBootId: z.optional(z.string()),
  /** Seconds after the kernel's start at which each phase of the guest's boot ended */
  phases: z.optional(z.record(z.string(), z.number())),
});
export type Handles = z.output<typeof schema>;

/**
 * Handles of running VMs: in memory, and in `handles.json` in each VM's directory.
 *
 * The file is written first: an engine that dies in between leaves the disk ahead of memory, which the next
 * engine reads, and never the other way round.
 */
export class HandleCache {
  readonly #handles = new Map<string, Handles>();
  /** The last of what is being done to each VM's file */
  readonly #turns = new Map<string, Promise<void>>();
  readonly #pathOf: (id: string) => string;

  constructor(pathOf: (id: string) => string) {
    this.#pathOf = pathOf;
  }

  get(id: string): Handles | undefined {
    return this.#handles.get(id);
  }

  /** Those of a VMM that has just started, or was found. */
  set(id: string, handles: Handles): Promise<void> {
    return this.#inTurn(id, () => this.#write(id, () => handles));
  }

  /**
   * Changes some of a VM's handles and leaves the others as they are by then, whoever else changes them meanwhile. Does
   * nothing when there are none any more: neither they nor the VM's directory come back.
   */
  update(id: string, change: Partial<Handles>): Promise<void> {
    return this.#inTurn(id, async () => {
      if (this.#handles.has(id)) await this.#write(id, (now) => now && { ...now, ...change });
    });
  }

  /** The same in memory alone, for what need not outlive the engine, or cannot since the disk is full. */
  keep(id: string, change: Partial<Handles>): void {
    const now = this.#handles.get(id);
    if (now) this.#handles.set(id, { ...now, ...change });
  }

  /** Takes over what an earlier engine wrote and what still holds: the file is right already. */
  adopt(id: string, handles: Handles): void {
    this.#handles.set(id, handles);
  }

  clear(id: string): Promise<void> {
    return this.#inTurn(id, async () => {
      await rm(this.#pathOf(id), { force: true });
      await failpoint('handles removed');
      this.#handles.delete(id);
    });
  }

  /** What an earlier engine wrote; undefined when the file is missing, cut short or makes no sense. */
  async readFile(id: string): Promise<Handles | undefined> {
    try {
      const parsed = schema.safeParse(JSON.parse(await readFile(this.#pathOf(id), 'utf8')));
      return parsed.success ? parsed.data : undefined;
    } catch {
      return undefined;
    }
  }

  /** `change` is asked twice: what was kept in memory while the file was written stays. */
  async #write(id: string, change: (now: Handles | undefined) => Handles | undefined): Promise<void> {
    const written = change(this.#handles.get(id));
    await writeFileAtomic(this.#pathOf(id), `${JSON.stringify(written, undefined, 2)}\n`, 0o600);
    await failpoint('handles written');
    const latest = change(this.#handles.get(id));
    if (latest) this.#handles.set(id, latest);
  }

  /** Not a lock of the engine: who holds any of those may write handles. */
  async #inTurn(id: string, task: () => Promise<void>): Promise<void> {
    const turn = (this.#turns.get(id) ?? Promise.resolve()).then(task);
    const settled = turn.catch(() => undefined);
    this.#turns.set(id, settled);
    try {
      await turn;
    } finally {
      if (this.#turns.get(id) === settled) this.#turns.delete(id);
    }
  }
}
