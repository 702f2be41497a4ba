import { expect } from 'vitest';
import { vmResume, vmSet } from '../../src/engine/rpc/vm-control-methods.ts';
import { vmCreate, vmDelete, vmShow, vmStart, type VmView } from '../../src/engine/rpc/vm-methods.ts';
import { checkPort, findFreePort } from '../../src/host/ports.ts';
import type { CrashLab } from './crash-lab.ts';
import type { ResultOf } from '../../src/engine/rpc/method.ts';
import { acting, type Scenario } from './crash-matrix.ts';
import { listeningPorts, type HostWorld } from './host-world.ts';

const diskStep = 64 * 1024 ** 2;

/** Disk, memory and name of a VM that does not run: all of them or none, and it boots with what its row says. */
export function settingStopped(lab: CrashLab, world: HostWorld): Scenario {
  const { call } = lab;
  let before: VmView;
  let wanted: { name: string; diskBytes: number; memoryMib: number };
  return {
    name: 'vm set, stopped',
    ready: async () => {
      const old = world.vms().find(({ name }) => name.startsWith('box'));
      if (old) await call(vmDelete, { vm: old.id });
      before = await call(vmCreate, { name: 'box', start: false });
      wanted = { name: 'box-new', diskBytes: before.diskBytes + diskStep, memoryMib: before.memoryMib + 16 };
    },
    act: (arm) => {
      arm();
      return call(vmSet, { vm: before.id, ...wanted });
    },
    outcome: async () => {
      const { name, diskBytes, memoryMib, state } = await call(vmShow, { vm: before.id });
      const isNew = name === wanted.name;
      const { name: oldName, diskBytes: oldBytes, memoryMib: oldMib } = before;
      const old = { name: oldName, diskBytes: oldBytes, memoryMib: oldMib };
      expect({ name, diskBytes, memoryMib }).toEqual(isNew ? wanted : old);
      expect(state).toBe('stopped');
      if (isNew) {
        await call(vmStart, { vm: before.id });
        const sectors = await lab.banger.guest(name, 'cat /sys/class/block/vda/size; cat /etc/hostname');
        expect(sectors).toBe(`${diskBytes / 512}\n${name}`);
      }
      await call(vmDelete, { vm: before.id });
      return isNew ? 'it is as asked' : 'it is as before';
    },
  };
}

/** Name and ports of a VM that runs: its row is the one or the other, and the ports that listen are the row's. */
export function settingRunning(lab: CrashLab): Scenario {
  const { call } = lab;
  let id: string | undefined;
  let oldPort: number;
  let newPort: number;
  const portsOf = (vm: VmView): number[] => vm.ports.map(({ hostPort }) => hostPort);
  return {
    name: 'vm set, running',
    ready: async () => {
      if (id === undefined) {
        ({ id } = await call(vmShow, { vm: 'web' }));
        await call(vmStart, { vm: id });
        oldPort = await findFreePort();
        newPort = await findFreePort();
      }
      const now = await call(vmShow, { vm: id });
      await call(vmSet, {
        vm: id,
        name: 'web',
        publish: [{ hostPort: oldPort, guestPort: 80 }],
        unpublish: portsOf(now)
          .filter((port) => port !== oldPort)
          .map((hostPort) => ({ hostPort })),
      });
    },
    act: (arm) => {
      arm();
      const publish = [{ hostPort: newPort, guestPort: 81 }];
      return call(vmSet, { vm: id!, name: 'shop', publish, unpublish: [{ hostPort: oldPort }] });
    },
    outcome: async () => {
      const vm = await call(vmShow, { vm: id! });
      const isNew = vm.name === 'shop';
      expect(portsOf(vm)).toEqual([isNew ? newPort : oldPort]);
      const listening = listeningPorts();
      expect([listening.has(oldPort), listening.has(newPort)]).toEqual([!isNew, isNew]);
      expect(vm.state).toBe('running');
      expect(await lab.banger.guest(vm.name, 'cat /root/kept')).toBe('web');
      // Others know it by its name.
      const unpublish = portsOf(vm).map((hostPort) => ({ hostPort }));
      await call(vmSet, { vm: id!, name: 'web', unpublish });
      return isNew ? 'it is as asked' : 'it is as before';
    },
  };
}

/** A larger disk and a published port at once: what the row says is what the host does. */
export function setting(lab: CrashLab): Scenario {
  const { call } = lab;
  let count = 0;
  let before: ResultOf<typeof vmShow>;
  let hostPort: number;
  const wanted = () => ({
    vm: 'web',
    diskBytes: before.diskBytes + 1024 ** 2,
    labels: { count: String(count) },
    publish: [{ hostPort, guestPort: 80 }],
  });
  return {
    name: 'vm set, disk and ports',
    ready: async () => {
      if ((await call(vmShow, { vm: 'web' })).state === 'paused') await call(vmResume, { vm: 'web' });
      await call(vmStart, { vm: 'web' });
      const { ports } = await call(vmShow, { vm: 'web' });
      await call(vmSet, { vm: 'web', unpublish: ports.map(({ hostPort: port }) => ({ hostPort: port })) });
      before = await call(vmShow, { vm: 'web' });
      hostPort = await findFreePort();
      count++;
    },
    act: (arm) => acting(lab, vmSet, wanted())(arm),
    outcome: async () => {
      const { labels, ports } = await call(vmShow, { vm: 'web' });
      const isSet = labels['count'] === String(count);
      expect(ports.map((port) => port.hostPort)).toEqual(isSet ? [hostPort] : []);
      const isListening = await checkPort({ protocol: 'tcp', bind: '127.0.0.1', port: hostPort }).then(
        () => false,
        () => true,
      );
      expect(isListening).toBe(isSet);
      expect(await call(vmSet, wanted())).toMatchObject({ atNextStart: [], diskBytes: wanted().diskBytes });
      return isSet ? 'all of it is set' : 'nothing is set';
    },
  };
}
