import { expect, test } from 'vitest';
import type { Cli } from '../../src/commands/cli.ts';
import type { PruneReport } from '../../src/engine/rpc/image-prune-methods.ts';
import { runProgram } from '../support/run-program.ts';

const mib = 1024 ** 2;
const blob = (digit: string) => ({
  kind: 'blob' as const,
  id: `sha256:${digit.repeat(64)}`,
  names: [],
  bytes: 5 * mib,
  why: 'a layer of no image here',
});
const report: PruneReport = {
  removed: [
    { kind: 'image', id: 'a'.repeat(64), names: ['old:1'], bytes: 80 * mib, why: 'no VM uses it' },
    blob('b'),
    blob('c'),
  ],
  kept: [{ kind: 'image', id: 'd'.repeat(64), names: [], bytes: 10 * mib, why: 'used by VM "web"' }],
  freedBytes: 90 * mib,
};

async function run(argv: readonly string[], answer?: boolean) {
  const calls: unknown[] = [];
  const lines: string[] = [];
  const exitCodes: number[] = [];
  const cli: Partial<Cli> = {
    call: (async (_: unknown, params: unknown) => {
      calls.push(params);
      return report;
    }) as unknown as Cli['call'],
    print: (value, text) => void lines.push(text(value)),
    say: (line) => void lines.push(line),
    ask: async (question) => {
      lines.push(question);
      return answer;
    },
    exitWith: (code) => void exitCodes.push(code),
  };
  const ran = runProgram(cli as Cli, ['image', 'prune', ...argv]);
  return { calls, lines, exitCodes, ran };
}

test('it shows what goes and what stays, and asks first', async () => {
  const { calls, lines, ran } = await run(['--all'], true);
  await ran;
  expect(calls).toEqual([
    { all: true, dryRun: true },
    { all: true, dryRun: false },
  ]);
  expect(lines[0]?.split('\n')).toEqual([
    'Would remove:',
    'KIND      NAME       SIZE    WHY',
    'image     old:1      80 MiB  no VM uses it',
    'download  2 of them  10 MiB  a layer of no image here',
    '',
    'Kept:',
    'KIND   NAME          SIZE    WHY',
    'image  dddddddddddd  10 MiB  used by VM "web"',
    '',
    'Would free 90 MiB',
  ]);
  expect(lines[1]).toBe('Remove 90 MiB?');
  expect(lines[2]).toMatch(/^Removed:[^]*Freed 90 MiB$/);
});

test('no means that nothing is removed', async () => {
  const { calls, lines, exitCodes, ran } = await run([], false);
  await ran;
  expect(exitCodes).toEqual([1]);
  expect(calls).toEqual([{ all: false, dryRun: true }]);
  expect(lines.at(-1)).toBe('Nothing removed');
});

test('without a terminal to ask on it is an error that names the flag', async () => {
  const { calls, ran } = await run([], undefined);
  await expect(ran).rejects.toMatchObject({ hint: expect.stringContaining('--force') });
  expect(calls).toEqual([{ all: false, dryRun: true }]);
});

test.each([
  [['--force'], [{ all: false, dryRun: false }]],
  [['-n', '-a'], [{ all: true, dryRun: true }]],
])('%j asks nothing', async (argv, expected) => {
  const { calls, ran } = await run(argv);
  await ran;
  expect(calls).toEqual(expected);
});
