import { errorText } from '../../errors.ts';
import { monotonicMs } from '../../host/clock.ts';
import { listVms, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';

const lookEveryMs = 60_000;
/** The host was suspended, or its clock was set: the two that it has have moved apart by this much. */
const jumpMs = 1_000;
/** What a guest's clock may be off by and be left alone: setting one has its price, for builds and logs. */
const tolerableSeconds = 2;
/** Guests run by the host's oscillator, and without its corrections: seconds a day. */
const driftEveryMs = 6 * 3_600_000;
/** A guest that does not answer in this time keeps the clock it has. */
const clockTimeoutMs = 5_000;

type ClockContext = Pick<EngineContext, 'db' | 'guest' | 'log'>;

/** Both clocks of the host, in milliseconds. */
export interface HostClocks {
  /** Since 1970; somebody may set it */
  readonly time: () => number;
  /** Since some moment; it stands still while the host is suspended */
  readonly monotonic: () => number;
}

/** Sets the clocks of running guests when the host was suspended or its clock was set, and now and then. */
export class GuestClocks {
  readonly #context: ClockContext;
  readonly #clocks: HostClocks;
  #timer: NodeJS.Timeout | undefined;
  #apart: number;
  #setAt: number;

  constructor(context: ClockContext, clocks: HostClocks = { time: Date.now, monotonic: monotonicMs }) {
    this.#context = context;
    this.#clocks = clocks;
    this.#apart = clocks.time() - clocks.monotonic();
    this.#setAt = clocks.monotonic();
  }

  start(everyMs = lookEveryMs): void {
    this.#timer = setInterval(() => void this.look(), everyMs).unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  async look(): Promise<void> {
    const { time, monotonic } = this.#clocks;
    const apart = time() - monotonic();
    const hasJumped = Math.abs(apart - this.#apart) > jumpMs;
    if (!hasJumped && monotonic() - this.#setAt < driftEveryMs) return;
    this.#apart = apart;
    this.#setAt = monotonic();
    const running = listVms(this.#context.db).filter(({ state }) => state === 'running');
    const { signal } = new AbortController();
    await Promise.all(running.map((vm) => setGuestClock(this.#context, vm, { signal, time })));
  }
}

/** Gives a guest the host's time, unless it has that already. One that does not answer is in the log. */
export async function setGuestClock(
  context: Pick<ClockContext, 'guest' | 'log'>,
  vm: Vm,
  { signal, time = Date.now }: { readonly signal: AbortSignal; readonly time?: HostClocks['time'] },
): Promise<void> {
  const bounded = AbortSignal.any([signal, AbortSignal.timeout(clockTimeoutMs)]);
  try {
    const guest = await context.guest(vm, bounded);
    const seconds = String(Math.round(time() / 1000));
    const { exit, stderr } = await guest.runToolbox(
      ['sh', '-c', script, 'sh', seconds, String(tolerableSeconds)],
      { signal: bounded },
    );
    if (exit.code !== 0) throw new Error(stderr.trim());
  } catch (error) {
    context.log('warn', `the guest's clock could not be set: ${errorText(error)}`, { vm: vm.id });
  }
}

const script = `off=$(($1 - $(date +%s)))
[ "\${off#-}" -lt "$2" ] || date -u -s "@$1"`;
