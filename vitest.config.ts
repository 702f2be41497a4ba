import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const labs = 'test/system/lab*.test.ts';
const crashMatrix = 'test/system/crash-matrix.test.ts';

/** Tests that boot VMs. */
const system = { globalSetup: ['test/support/test-build.ts'], testTimeout: 300_000, hookTimeout: 300_000 };

/** Small files that take long: begun last, as small ones are, they would keep one processor waiting for the other. */
const slow = /\/(?:bombs|parity)\.test\.ts$/;

class SlowFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const isSlow = ({ moduleId }: TestSpecification): boolean => slow.test(moduleId);
    return [...sorted.filter(isSlow), ...sorted.filter((file) => !isSlow(file))];
  }
}

export default defineConfig({
  test: {
    sequence: { sequencer: SlowFirst },
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/system/**'],
          // Real git and real programs, on hosts that may be busy.
          testTimeout: 120_000,
          // One less is the default, and much of the time is spent waiting for programs.
          maxWorkers: '100%',
          hookTimeout: 60_000,
          expect: { poll: { timeout: 30_000 } },
        },
      },
      {
        test: {
          ...system,
          name: 'system',
          include: ['test/system/**/*.test.ts'],
          exclude: [crashMatrix, labs],
          // Two at a time: a boot under emulation takes a core, and much of the rest is waiting.
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          ...system,
          name: 'system-crashes',
          include: [crashMatrix],
          // It runs two lanes itself.
          maxWorkers: 1,
          sequence: { groupOrder: 2 },
        },
      },
      // In VMs that are hosts themselves: one has all of ours.
      { test: { ...system, name: 'lab', include: [labs], maxWorkers: 1 } },
    ],
  },
});
