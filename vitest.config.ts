import { defineConfig } from 'vitest/config';

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
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'system',
          include: ['test/system/**/*.test.ts'],
          globalSetup: ['test/support/test-build.ts'],
          testTimeout: 300_000,
          hookTimeout: 300_000,
          // One VM at a time: boots under emulation share the host's few cores.
          fileParallelism: false,
        },
      },
    ],
  },
});
