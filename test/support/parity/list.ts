import { spawn } from 'node:child_process';
import { statSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { BangerError } from '../../../src/errors.ts';
import { BoundedLog } from '../../../src/host/bounded-log.ts';
import { loopbackForward, type PortForward } from '../../../src/host/drivers/driver.ts';
import { findFreePort } from '../../../src/host/ports.ts';
import { killProcess, waitForExit } from '../../../src/host/process.ts';
import { until } from '../banger.ts';
import type { Column } from './columns.ts';
import { foundDevices } from './devices.ts';
import { describeStop } from './stop.ts';
import { diskBytes, discardedBytes } from './guest.ts';
import { describeEnds } from './ends.ts';
import { describeLeftovers } from './leftovers.ts';
import { consoleOf, exitMs, goesOn, lastTick, Place, tookMs, type ListedVm } from './place.ts';
import { describeRefusals } from './refusals.ts';
import { echoPort, inGuest, isEchoed, shellPort, whoReaches } from './traffic.ts';

/**
 * What every driver does, whichever VMM it starts: the list that all of them are held to. What one of them has not, it
 * refuses by name, and that is on the list, too.
 */
export function describeDriver(column: Column): void {
  describe(column.title, () => {
    if (column.missing !== undefined) {
      process.stderr.write(`Note: ${column.title} is not held to the list of drivers: ${column.missing}\n`);
      test('does what drivers do', ({ skip }) => skip(column.missing));
      return;
    }
    const place = new Place(column);
    beforeAll(() => place.prepare());
    afterAll(() => place[Symbol.asyncDispose]());
    describeRefusals(column, place);
    describeRunning(column, place);
    describeEnds(column, place);
    describeStop(column, place);
    describeLeftovers(place);
  });
}

function describeRunning(column: Column, place: Place): void {
  describe('one that runs', () => {
    const hasNetwork = column.noUserNetwork === undefined;
    let vm: ListedVm;
    let other: ListedVm;
    let first: PortForward;
    /** Leads to the guest's shell, once its ports were changed */
    let way: PortForward;
    /** And one to its echo */
    let datagrams: PortForward;
    // A stand-in has no guest that could answer.
    const isReal = column.asked === undefined;

    beforeAll(async () => {
      first = loopbackForward(await findFreePort(), shellPort);
      const network = hasNetwork ? { user: { forwards: [first], reach: 'all' as const } } : {};
      vm = await place.start(place.spec('shared', { network }));
      other = await place.start(place.spec('other', { disk: undefined }, 'waits'));
      await until('both guests are up', () => lastTick(vm) > 0 && consoleOf(other).includes('parity-waits'));
      // Before its console is cut.
      place.freeMs = tookMs(vm);
    });

    test('is found by its id alone, by a driver that did not start it', () => {
      const { process } = vm.vmm;
      expect(place.driver().find(vm.spec.id)).toEqual({
        driver: place.driver().name,
        process,
        acceleration: column.acceleration,
        forwards: column.tellsMachine && hasNetwork ? [first] : [],
        ...(column.tellsMachine && { cpus: 1, memoryMib: 192 }),
      });
      expect(place.driver().find(other.spec.id)?.process).toEqual(other.vmm.process);
      expect(place.driver().find('e'.repeat(32))).toBeUndefined();
    });

    test('is not taken for one by a process that was given the same words elsewhere', () => {
      const id = 'd'.repeat(32);
      const words = ['-c', 'sleep 60; :', 'sh', 'x', ...column.wordsOf(id)];
      const stranger = spawn('sh', words, { stdio: 'ignore', detached: true });
      onTestFinished(() => void process.kill(-stranger.pid!, 'SIGKILL'));
      expect(place.driver().find(id)).toBeUndefined();
    });

    test('is controlled by whoever comes next', async () => {
      vm.control.close();
      const control = await place.control(vm.vmm);
      vm = { ...vm, control };
      expect(await control.activity()).toBe('running');
    });

    if (column.devices)
      test('has no device but those of its machine and what its guest uses', async () => {
        vm.control.close();
        const found = await foundDevices(vm.vmm.controlSocket);
        vm = { ...vm, control: await place.control(vm.vmm) };
        expect(found.filter((kind) => !column.devices!.includes(kind))).toEqual([]);
        const ofGuest = found.filter((kind) => kind.startsWith('virtio-') && kind.endsWith('-device'));
        expect(ofGuest.toSorted()).toEqual(['virtio-blk-device', 'virtio-net-device', 'virtio-rng-device']);
      });

    test("has files for the guest's console and its own words that are nobody else's to read", () => {
      for (const path of [vm.vmm.consoleLog, vm.vmm.vmmLog]) {
        expect(statSync(path).mode & 0o077).toBe(0);
      }
      expect(consoleOf(vm)).toContain('parity-ready');
    });

    test('stands still and goes on as often as asked, and says so each time that something changed', async () => {
      const told: string[] = [];
      vm.control.onActivity(() => told.push('changed'));
      await vm.control.pause();
      await vm.control.pause();
      expect(await vm.control.activity()).toBe('paused');
      await sleep(200);
      const before = lastTick(vm);
      await sleep(500);
      expect(lastTick(vm)).toBe(before);
      expect(await other.control.activity()).toBe('running');
      await vm.control.resume();
      await vm.control.resume();
      expect(await vm.control.activity()).toBe('running');
      await goesOn(vm);
      await until('both changes are told', () => told.length >= 2);
      expect(told).toHaveLength(2);
    });

    test('keeps nobody waiting for longer than asked when it does not answer', async () => {
      process.kill(vm.vmm.process.pid, 'SIGSTOP');
      try {
        await expect(vm.control.activity(200)).rejects.toMatchObject({ code: 'timeout' });
      } finally {
        process.kill(vm.vmm.process.pid, 'SIGCONT');
      }
      expect(await vm.control.activity()).toBe('running');
    });

    test("goes on with its console's log when that is cut", async () => {
      await goesOn(vm);
      expect(await new BoundedLog(vm.vmm.consoleLog).cut(10)).toBe(true);
      await goesOn(vm);
      // Without a hole where what was cut off had been.
      expect(consoleOf(vm)).toMatch(/parity-tick/);
      expect(consoleOf(vm)).not.toContain('\0');
    });

    test('gets a larger disk, which its guest sees', async () => {
      const size = diskBytes + 1024 ** 2;
      await vm.control.growDisk(size);
      await until('the guest sees it', () => consoleOf(vm).includes(`parity-size ${size}`));
      expect(statSync(vm.vmm.disk).size).toBe(size);
    });

    test(`${column.discards ? 'gives back' : 'does not give back'} the room of what its guest discards`, () => {
      const bytes = statSync(vm.vmm.disk).blocks * 512;
      if (column.discards) expect(bytes).toBeLessThan(discardedBytes);
      else expect(bytes).toBeGreaterThanOrEqual(discardedBytes);
    });

    test('runs what is sent to its guest by a port', async ({ skip }) => {
      if (!hasNetwork) skip(`No user network here: ${column.noUserNetwork}`);
      if (!isReal) skip('a stand-in runs no programs');
      expect(await inGuest(first.hostPort, 'uname; echo $((6 * 7)); cat /proc/cmdline')).toMatch(
        /^Linux\n42\n.*parity=goes-on/,
      );
    });

    test('has its ports changed, and refuses one that is taken', async ({ skip }) => {
      if (!hasNetwork) skip(`No user network here: ${column.noUserNetwork}`);
      datagrams = { ...first, protocol: 'udp', hostPort: await freeUdpPort(), guestPort: echoPort };
      expect(await vm.control.forwards()).toEqual([first]);
      await vm.control.addForward(datagrams);
      expect(sorted(await vm.control.forwards())).toEqual(sorted([first, datagrams]));
      way = loopbackForward(await findFreePort(), shellPort);
      await vm.control.addForward(way);
      if (isReal) expect(await inGuest(way.hostPort, 'echo here')).toBe('here');
      if (isReal) expect(await isEchoed(datagrams.hostPort, true)).toBe(true);
      const taken = await listen();
      await expect(vm.control.addForward(loopbackForward(taken, 80))).rejects.toMatchObject({
        code: 'busy',
        message: expect.stringContaining(`${taken}/tcp`) as unknown,
      });
      await vm.control.removeForward(first);
      await vm.control.removeForward(first);
      expect(sorted(await vm.control.forwards())).toEqual(sorted([datagrams, way]));
      if (isReal) expect(await inGuest(first.hostPort, 'echo here')).toBe('');
      expect(place.driver().find(vm.spec.id)).toBeDefined();
    });

    test('is cut off and let out again', async ({ skip }) => {
      if (!hasNetwork) skip(`No user network here: ${column.noUserNetwork}`);
      const forwards = await vm.control.forwards();
      const reaches = await whoReaches();
      for (const reach of ['all', 'none', 'all'] as const) {
        if ((await vm.control.reach())?.reach !== reach) await vm.control.setReach(reach);
        expect(await vm.control.reach()).toEqual({ reach, canChange: true });
        if (!isReal) continue;
        // What leads in does so in any case, but for answers to datagrams: nobody can tell them from what a guest begins.
        expect(await reaches(way.hostPort)).toBe(reach === 'all');
        expect(await isEchoed(datagrams.hostPort, reach === 'all')).toBe(reach === 'all');
      }
      expect(await vm.control.forwards()).toEqual(forwards);
      await vm.control.removeForward(datagrams);
      expect(await vm.control.forwards()).toEqual([way]);
      if (isReal) expect(await isEchoed(datagrams.hostPort, false)).toBe(false);
    });

    test('without a network has no ports and no reach, and says that instead of giving any', async () => {
      const { control } = other;
      const port = loopbackForward(await findFreePort(), 80);
      expect(await control.forwards()).toEqual([]);
      expect(await control.reach()).toBeUndefined();
      await expect(control.addForward(port)).rejects.toMatchObject({ code: 'host_unsupported' });
      await control.removeForward(port);
      await expect(control.setReach('none')).rejects.toMatchObject({ code: 'host_unsupported' });
    });

    test('is as it was when its power button was pressed, or ends by a reset, once it does not stand still', async () => {
      if (column.powerButton === 'left to the guest') {
        await vm.control.pressPowerButton();
        await goesOn(vm);
        return;
      }
      const pressed = await place.start(place.spec('pressed'));
      const before = column.asked?.(place.program).length;
      await pressed.control.pause();
      await pressed.control.pressPowerButton();
      expect(await pressed.control.activity()).toBe('paused');
      // It may end before it can say that it goes on.
      await pressed.control.resume().catch((error: unknown) => expect(error).toBeInstanceOf(BangerError));
      if (column.asked)
        expect(column.asked(place.program).slice(before)).toEqual([
          { method: 'PATCH', path: '/vm', body: { state: 'Paused' } },
          { method: 'PUT', path: '/actions', body: { action_type: 'SendCtrlAltDel' } },
          { method: 'PATCH', path: '/vm', body: { state: 'Resumed' } },
        ]);
      if (column.powerButton === 'resets') {
        expect(await pressed.control.closed).toBe('reset');
        expect(await waitForExit(pressed.vmm.process, exitMs)).toBe(true);
        await until('the end is told', () => pressed.exits.length > 0);
        expect(pressed.exits).toEqual(['none']);
        expect(place.driver().find(pressed.spec.id)).toBeUndefined();
      }
      await killProcess(pressed.vmm.process);
    });

    test('that is killed says nothing of its guest, and leaves the other one alone', async () => {
      await killProcess(other.vmm.process);
      expect(await other.control.closed).toBeUndefined();
      await until('the end is told', () => other.exits.length > 0);
      expect(other.exits).toEqual(['SIGKILL']);
      expect(place.driver().find(other.spec.id)).toBeUndefined();
      expect(place.driver().find(vm.spec.id)?.process).toEqual(vm.vmm.process);
      await goesOn(vm);
      await expect(other.control.pause()).rejects.toBeInstanceOf(BangerError);
    });

    test('ends when its guest powers off, and says so', async () => {
      await vm.control.growDisk(diskBytes + 2 * 1024 ** 2);
      expect(await vm.control.closed).toBe('power-off');
      expect(await waitForExit(vm.vmm.process, exitMs)).toBe(true);
      await until('the end is told', () => vm.exits.length > 0);
      expect(vm.exits).toHaveLength(1);
      const { control } = vm;
      await expect(control.activity()).rejects.toBeInstanceOf(BangerError);
      await expect(control.growDisk(1)).rejects.toBeInstanceOf(BangerError);
      // What was true of its network is no answer, with or without one.
      for (const ended of [control, other.control]) {
        await expect(ended.forwards()).rejects.toMatchObject({ code: 'command_failed' });
        await expect(ended.reach()).rejects.toMatchObject({ code: 'command_failed' });
        await expect(ended.addForward(first)).rejects.toMatchObject({ code: 'command_failed' });
        await expect(ended.removeForward(first)).rejects.toMatchObject({ code: 'command_failed' });
      }
    });
  });
}

/** Takes a port of the loopback until the test is over. */
async function listen(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  return (server.address() as { readonly port: number }).port;
}

const freeUdpPort = () => findFreePort({ protocol: 'udp', bind: '127.0.0.1' });

function sorted(ports: readonly PortForward[]): PortForward[] {
  return ports.toSorted((one, two) => one.hostPort - two.hostPort);
}
