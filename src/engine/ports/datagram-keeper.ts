import { userCard } from '../../host/drivers/driver.ts';
import { hostPortText, type PublishedPort } from '../../state/ports.ts';
import { getVm, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { forAll } from '../for-all.ts';
import { withoutLocks } from '../locks.ts';
import { carriedPorts } from './carried-ports.ts';
import { DatagramPort } from './datagram-port.ts';

/**
 * UDP ports of the host that lead into running VMs whose VMM lets no answers out: they go through a relay of ours in
 * the guest. They end with the engine; the one that adopts the VM listens again.
 */
export class DatagramKeeper {
  readonly #open = new Map<string, DatagramPort[]>();
  readonly #context: () => EngineContext;

  constructor(context: () => EngineContext) {
    this.#context = context;
  }

  /** Makes it what the VM's row says. Throws `busy` when a port is taken; all others are there then. */
  async match(vm: Vm): Promise<void> {
    const wanted = carriedPorts(this.#context(), vm);
    const before = this.#open.get(vm.id) ?? [];
    const open = before.filter(({ port }) => wanted.some((one) => isSame(one, port)));
    for (const one of before) if (!open.includes(one)) one.close();
    this.#open.set(vm.id, open);
    const missing = wanted.filter((port) => !open.some((one) => isSame(one.port, port)));
    await forAll(missing, async (port) => void open.push(await this.#publish(vm, port)));
  }

  drop(id: string): void {
    for (const one of this.#open.get(id) ?? []) one.close();
    this.#open.delete(id);
  }

  close(): void {
    for (const id of [...this.#open.keys()]) this.drop(id);
  }

  #publish({ id, address }: Vm, port: PublishedPort): Promise<DatagramPort> {
    // Not the guest's loopback: what listens there only is not published.
    const place = { address: address ?? userCard.address.split('/')[0]!, port: port.guestPort };
    return DatagramPort.open(port, {
      connect: (signal) =>
        withoutLocks(async () => {
          const context = this.#context();
          // As where a VMM leads them in: datagrams keep no VM from being idle.
          const guest = await context.guest(getVm(context.db, id), signal, { isWatching: true });
          return guest.connectDatagrams(place, { signal });
        }),
      say: (why) =>
        this.#context().log(
          'warn',
          `datagrams to ${hostPortText(port)} do not reach port ${port.guestPort}: ${why}`,
          { vm: id },
        ),
    });
  }
}

function isSame(one: PublishedPort, other: PublishedPort): boolean {
  return one.bind === other.bind && one.hostPort === other.hostPort && one.guestPort === other.guestPort;
}
