import { execFileSync, spawnSync } from 'node:child_process';
import { beforeAll, describe, expect, test } from 'vitest';
import { waitForExit } from '../../../src/host/process.ts';
import type { Column } from './columns.ts';
import { keptWords, timedBytes } from './guest.ts';
import { exitMs, tookMs, type Place, type ListedVm } from './place.ts';

const bytesPerSecond = 2 * 1024 ** 2;

/** The part of the list that is about a guest that is stopped, whose disk has a rate. */
export function describeStop(column: Column, place: Place): void {
  const tools = ['mkfs.ext4', 'debugfs'].filter((tool) => spawnSync(tool, ['-V']).error !== undefined);
  if (tools.length > 0) process.stderr.write(`Note: no guest is stopped here: ${tools.join()} missing\n`);

  describe.runIf(tools.length === 0)('a guest that is stopped', () => {
    let vm: ListedVm;
    beforeAll(async () => {
      const spec = place.spec('stops', {}, 'stops');
      execFileSync('mkfs.ext4', ['-q', '-F', spec.disk!.path]);
      vm = await place.start({ ...spec, disk: { ...spec.disk!, bytesPerSecond } });
    });

    test('has on its disk what it had written and not waited for, though its VMM has ended', async () => {
      expect(await vm.control.closed).toBe('power-off');
      expect(await waitForExit(vm.vmm.process, exitMs)).toBe(true);
      const kept = execFileSync('debugfs', ['-R', 'cat /kept', vm.vmm.disk], { stdio: 'pipe' });
      expect(kept.toString()).toBe(`${keptWords}\n`);
    });

    test('writes no faster than its disk was allowed', () => {
      if (column.asked) {
        const drive = column.asked(place.program).findLast(({ path }) => path === '/drives/root');
        const bandwidth = { size: bytesPerSecond, refill_time: 1000 };
        expect(drive?.body).toMatchObject({ rate_limiter: { bandwidth } });
        return;
      }
      // Of a second's worth a burst may be for nothing.
      const allowed = ((timedBytes - 2 * bytesPerSecond) / bytesPerSecond) * 1000;
      expect(tookMs(vm) / allowed).toBeGreaterThanOrEqual(1);
      if (place.freeMs !== undefined) expect(tookMs(vm) / place.freeMs).toBeGreaterThan(1);
    });
  });
}
