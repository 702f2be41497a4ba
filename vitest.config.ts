import { defineConfig } from 'vitest/config';

const crashMatrix = 'test/system/crash-matrix.test.ts';

/** Tests that boot VMs. */
const system = { globalSetup: ['test/support/test-build.ts'], testTimeout: 300_000, hookTimeout: 300_000 };

export default defineConfig({
  test: {
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
          exclude: [crashMatrix],
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
    ],
  },
});
