import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { expect, test, vi } from 'vitest';

// Starts banger from its sources.
vi.setConfig({ testTimeout: 60_000 });

test('where nobody reads the output any more it ends as a program that SIGPIPE ends, and says nothing', async () => {
  const child = spawn(process.execPath, [resolve('bin/banger.ts'), '--help'], {
    env: { PATH: process.env['PATH'], BANGER_HOME: '/nonexistent' },
  });
  // It takes some time until it writes.
  child.stdout.destroy();
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number];
  expect(said).toBe('');
  expect(code).toBe(141);
});
