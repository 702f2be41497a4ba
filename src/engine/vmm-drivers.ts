import type { DriverName, FoundVmm, VmmDriver } from '../host/drivers/driver.ts';
import { driverNames } from '../host/drivers/driver.ts';
import { findFirecracker } from '../host/drivers/firecracker/find.ts';
import type { JailerWish } from '../host/drivers/firecracker/jail.ts';
import { networkSocket } from '../host/drivers/firecracker/namespace.ts';
import { qemuDriver } from '../host/drivers/qemu.ts';
import type { Config } from '../state/config.ts';
import type { Vm } from '../state/vms.ts';
import type { EngineContext } from './context.ts';

/**
 * The drivers of the configured programs, each kept for as long as its program is the same: it knows what it has
 * found out about it.
 */
export function vmmDrivers(config: () => Config): (name: DriverName) => VmmDriver {
  const kept = new Map<DriverName, { readonly key: string; readonly driver: VmmDriver }>();
  return (name) => {
    const { qemuProgram, firecrackerProgram, firecrackerJailer } = config();
    const key = name === 'qemu' ? qemuProgram : `${firecrackerJailer} ${firecrackerProgram}`;
    const known = kept.get(name);
    if (known?.key === key) return known.driver;
    const driver =
      name === 'qemu'
        ? qemuDriver(qemuProgram)
        : firecrackerWhenNeeded(firecrackerProgram, firecrackerJailer);
    kept.set(name, { key, driver });
    return driver;
  };
}

/** Most hosts have none: what talks to one is loaded with the first. */
function firecrackerWhenNeeded(program: string, jailer: JailerWish): VmmDriver {
  const load = async () =>
    (await import('../host/drivers/firecracker.ts')).firecrackerDriver(program, { jailer });
  let loaded: ReturnType<typeof load> | undefined;
  const driver = () => (loaded ??= load());
  return {
    name: 'firecracker',
    start: async (spec, signal) => (await driver()).start(spec, signal),
    find: findFirecracker,
    control: async (vmm) => (await driver()).control(vmm),
  };
}

/** The live VMM of a VM, whichever it is: the configuration may have changed since it was started. */
export function findVmm({ driver }: Pick<EngineContext, 'driver'>, id: string): FoundVmm | undefined {
  for (const name of driverNames) {
    const found = driver(name).find(id);
    if (found) return found;
  }
  return undefined;
}

/** Every socket that a VM's VMM, or what it has beside it, may leave behind. */
export function vmmSockets({ controlSocket }: Pick<Vm, 'controlSocket'>): readonly string[] {
  return [controlSocket, networkSocket(controlSocket)];
}
