import { setTimeout as sleep } from 'node:timers/promises';
import { errorText } from '../../errors.ts';
import { forgetFollowedPorts } from '../../state/ports.ts';
import { findVm, type Vm } from '../../state/vms.ts';
import type { Capability } from '../lifecycle/capabilities.ts';
import type { EngineContext } from '../context.ts';
import type { GuestProcess } from '../guest.ts';
import { withoutLocks } from '../locks.ts';
import { followPorts, publishablePorts } from './follow-ports.ts';

/** After the guest's word was lost, it is asked for again after this long. */
const retryMs = 10_000;
/** However fast a guest changes what listens in it, it is followed no faster. */
const pauseMs = 1_000;
const maxTableBytes = 256 * 1024;

/**
 * Looks at the guest's tables of sockets every two seconds, in the guest, and says something only when what listens
 * has changed: an engine that has nothing to do is not woken by it. It ends with the session that runs it.
 */
const script = `last=-
while [ -d /proc/$PPID ]; do
  now=$(for table in tcp tcp6; do
    echo "table $table"
    awk '$4 == "0A" { print $1, $2, $3, $4 }' /proc/net/$table 2>/dev/null
  done)
  [ "$now" = "$last" ] || printf '%s\\nend\\n' "$now"
  last=$now
  sleep 2
done`;

/** Publishes what running VMs listen on, for those that are to have it so, as long as it listens. */
export class PortFollowers {
  readonly #open = new Map<string, AbortController>();
  readonly #context: () => EngineContext;

  constructor(context: () => EngineContext) {
    this.#context = context;
  }

  /** Begins with a VM that has started or was adopted. */
  watch(vm: Vm): void {
    this.drop(vm.id);
    if (!vm.publishesAll) return;
    const stop = new AbortController();
    this.#open.set(vm.id, stop);
    void withoutLocks(() => this.#follow(vm, stop.signal));
  }

  drop(id: string): void {
    this.#open.get(id)?.abort();
    this.#open.delete(id);
  }

  close(): void {
    for (const id of [...this.#open.keys()]) this.drop(id);
  }

  async #follow(vm: Vm, signal: AbortSignal): Promise<void> {
    const context = this.#context();
    while (!signal.aborted && context.handles.get(vm.id)) {
      try {
        if (findVm(context.db, vm.id)?.state === 'running') {
          const guest = await context.guest(vm, signal, { isWatching: true });
          await this.#listen(vm.id, await guest.spawnToolbox(['sh', '-c', script], { signal }));
        }
      } catch (error) {
        if (!signal.aborted)
          context.log('warn', `what listens in the guest is not followed now: ${errorText(error)}`, {
            vm: vm.id,
          });
      }
      await sleep(retryMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  async #listen(id: string, process: GuestProcess): Promise<void> {
    process.stderr.resume();
    let text = '';
    for await (const chunk of process.stdio) {
      text += (chunk as Buffer).toString('latin1');
      if (text.length > maxTableBytes) break;
      const end = text.lastIndexOf('end\n');
      if (end < 0) continue;
      const latest = text.slice(0, end).split('end\n').at(-1)!;
      text = text.slice(end + 4);
      await followPorts(this.#context(), id, publishablePorts(latest));
      await sleep(pauseMs, undefined, { ref: false });
    }
    process.close();
  }
}

/** Ports that follow what listens in a VM. They go with the VM's run. */
export const followedPorts: Capability = {
  name: 'followed ports',
  afterStart(context, vm) {
    context.portFollowers.watch(vm);
    return Promise.resolve();
  },
  afterStop(context, vm) {
    context.portFollowers.drop(vm.id);
    forgetFollowedPorts(context.db, vm.id);
    return Promise.resolve();
  },
};
