/** One connection that a guest asked for, or several alike in a row. */
export interface EgressEntry {
  /** When it was asked for last, RFC 3339 */
  time: string;
  /** As the guest named it: a name or an address, without what a terminal would obey */
  readonly host: string;
  readonly port: number;
  readonly verdict: 'allowed' | 'blocked';
  /** Why it was blocked */
  readonly reason?: string;
  /** The rule that allowed it, or that came nearest */
  readonly rule?: string;
  /** How often in a row */
  count: number;
}

/** What is kept of each VM. A guest decides how much there is to tell, so that the oldest goes. */
const maxEntries = 1_000;

/** What a VM's guest reached and tried to reach, in memory: it is gone with the engine, and with the VM's next start. */
export class EgressLog {
  readonly #entries: EgressEntry[] = [];
  readonly #now: () => Date;

  constructor(now: () => Date = () => new Date()) {
    this.#now = now;
  }

  add(entry: Omit<EgressEntry, 'time' | 'count'>): void {
    const time = this.#now().toISOString();
    const last = this.#entries.at(-1);
    if (last && isAlike(last, entry)) {
      last.count++;
      last.time = time;
      return;
    }
    this.#entries.push({ ...entry, time, count: 1 });
    if (this.#entries.length > maxEntries) this.#entries.shift();
  }

  /** Oldest first. */
  list(): readonly EgressEntry[] {
    return this.#entries.map((entry) => ({ ...entry }));
  }
}

function isAlike(one: EgressEntry, other: Omit<EgressEntry, 'time' | 'count'>): boolean {
  return (
    one.host === other.host &&
    one.port === other.port &&
    one.verdict === other.verdict &&
    one.reason === other.reason
  );
}
