import { BangerError } from '../../errors.ts';
import { isSameHostPort, type PortForward } from '../../host/drivers/driver.ts';
import { checkPort, findFreePort } from '../../host/ports.ts';
import type { PublishedPort } from '../../state/ports.ts';
import { changeVm, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { guestSshPort } from '../guest-pool.ts';

/** A port to publish; without `hostPort`, any that is free. */
export interface PortRequest {
  readonly protocol: 'tcp' | 'udp';
  readonly bind: string;
  readonly hostPort?: number;
  readonly guestPort: number;
}

/** Gives each a port of the host. Throws when one is asked for that is taken. */
export async function planPorts(requests: readonly PortRequest[]): Promise<PublishedPort[]> {
  const planned: PublishedPort[] = [];
  for (const { protocol, bind, hostPort, guestPort } of requests) {
    if (hostPort !== undefined) await checkPort({ protocol, bind, port: hostPort });
    const chosen = hostPort === undefined;
    planned.push({
      protocol,
      bind,
      hostPort: hostPort ?? (await findFreePort({ protocol, bind })),
      guestPort,
      chosen,
    });
  }
  return planned;
}

/**
 * Makes sure, before a VM starts, that nobody else listens on its ports. One that was ours to choose is replaced
 * by another; one that the user chose and that is taken is an error (`busy`).
 */
export async function claimPorts(context: EngineContext, vm: Vm): Promise<readonly PublishedPort[]> {
  const claimed: PublishedPort[] = [];
  for (const port of vm.ports) {
    try {
      await checkPort({ ...port, port: port.hostPort });
      claimed.push(port);
    } catch (error) {
      const isTaken = error instanceof BangerError && error.code === 'busy';
      if (!isTaken || !port.chosen) throw error;
      claimed.push({ ...port, hostPort: await findFreePort(port) });
    }
  }
  const isSame = claimed.every((port, index) => port.hostPort === vm.ports[index]?.hostPort);
  if (!isSame) changeVm(context.db, vm.id, { ports: claimed });
  return claimed;
}

/** Makes the ports that lead into a running VM those that it shall have. Throws `busy` when one is taken. */
export async function matchForwards(context: EngineContext, vm: Vm): Promise<void> {
  const control = await context.controls.get(vm.id);
  if (!control) return;
  const current = (await control.forwards()).filter((port) => !isOurSsh(context, vm, port));
  const isIn = (ports: readonly PortForward[], port: PortForward): boolean =>
    ports.some((one) => isSameHostPort(one, port) && one.guestPort === port.guestPort);
  for (const port of current) if (!isIn(vm.ports, port)) await control.removeForward(port);
  for (const port of vm.ports) if (!isIn(current, port)) await control.addForward(port);
}

function isOurSsh(context: EngineContext, vm: Vm, port: PortForward): boolean {
  return port.guestPort === guestSshPort && port.hostPort === context.handles.get(vm.id)?.sshPort;
}
