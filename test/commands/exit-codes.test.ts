import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
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

test.each([
  [['--help'], 1],
  [['completion', 'bash'], 1],
  [['vm', 'exec', '--help'], 125],
])('output for which there is no room is told, with an exit code that says so: %j', (words, code) => {
  const full = openSync('/dev/full', 'w');
  const ran = spawnSync(process.execPath, [resolve('bin/banger.ts'), ...words], {
    env: { PATH: process.env['PATH'], BANGER_HOME: '/nonexistent' },
    stdio: ['ignore', full, 'pipe'],
    encoding: 'utf8',
  });
  closeSync(full);
  expect(ran.stderr).toMatch(
    /^banger: Standard output cannot be written: the disk is full\n {2}What was written/,
  );
  expect(ran.status).toBe(code);
});

test.each([
  [{ BANGER_HOME: './here' }, 'BANGER_HOME is "./here"'],
  [{ HOME: 'here' }, 'The home directory is "here"'],
])('a place that depends on the current directory is refused: %j', (env, words) => {
  const ran = spawnSync(process.execPath, [resolve('bin/banger.ts'), 'vm', 'list'], {
    env: { PATH: process.env['PATH'], ...env },
    encoding: 'utf8',
  });
  expect(ran.stderr).toContain(`banger: ${words}, which is another place in each directory\n  `);
  expect(ran.status).toBe(2);
});
