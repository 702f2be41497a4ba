import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { killProcess, waitForExit } from '../../../src/host/process.ts';
import { until } from '../banger.ts';
import type { Column } from './columns.ts';
import { discardedBytes } from './guest.ts';
import { consoleOf, exitMs, type Place } from './place.ts';

/** The part of the list that is about guests that end, and about disks that VMMs are given for it. */
export function describeEnds(column: Column, place: Place): void {
  describe('a guest', () => {
    test('that panics ends its VMM by a reset, and had on its disk what the one before it left there', async () => {
      const disk = { path: join(place.root, 'shared', 'disk'), format: 'raw' as const };
      const spec = { ...place.spec('panics', {}, 'panic'), disk };
      const vm = await place.start(spec);
      expect(await vm.control.closed).toBe('reset');
      expect(await waitForExit(vm.vmm.process, exitMs)).toBe(true);
      expect(consoleOf(vm)).toContain('parity-disk left by goes-on');
      expect(consoleOf(vm)).toContain('Kernel panic');
      expect(readFileSync(disk.path).toString('latin1', 0, 13)).toBe('left by panic');
    });

    test('that resets ends its VMM, which was started over what a killed one had left, and keeps its logs', async () => {
      const spec = place.spec('other', {}, 'reset');
      const words = readFileSync(spec.consoleLog, 'latin1');
      expect(statSync(spec.controlSocket).isSocket()).toBe(true);
      const vm = await place.start(spec);
      expect(await vm.control.closed).toBe('reset');
      expect(await waitForExit(vm.vmm.process, exitMs)).toBe(true);
      expect(consoleOf(vm)).toContain('parity-disk');
      expect(consoleOf(vm)).not.toContain('parity-waits');
      expect(readFileSync(`${spec.consoleLog}.before`, 'latin1')).toBe(words);
      expect(existsSync(`${spec.vmmLog}.before`)).toBe(true);
    });

    const title = column.readsQcow2
      ? 'has a disk in qcow2, whose file keeps no room for what was discarded'
      : 'is refused a disk in qcow2';
    test(title, async () => {
      const path = join(place.root, 'disk.qcow2');
      onTestFinished(() => rmSync(path, { force: true }));
      execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', path, '16M']);
      const starting = place.start(place.spec('qcow2', { disk: { path, format: 'qcow2' } }));
      if (!column.readsQcow2) {
        await expect(starting).rejects.toMatchObject({ code: 'host_unsupported' });
        return;
      }
      const vm = await starting;
      await until('its guest has written and discarded', () => consoleOf(vm).includes('parity-ready'));
      const { size, blocks } = statSync(path);
      expect(size).toBeGreaterThanOrEqual(discardedBytes);
      expect(blocks * 512).toBeLessThan(discardedBytes);
      await killProcess(vm.vmm.process);
    });
  });
}
