import { expect, test } from 'vitest';
import type { Cli } from '../../src/commands/cli.ts';
import type { KernelView } from '../../src/engine/rpc/kernel-methods.ts';
import { runProgram } from '../support/run-program.ts';

const view: KernelView = {
  id: 'ab'.repeat(32),
  names: ['mine'],
  version: '6.1.0-test',
  arch: 'amd64',
  source: 'import',
  origin: '/boot/vmlinuz',
  format: 'elf',
  imageBytes: 50 * 1024 ** 2,
  modulesBytes: 1024 ** 2,
  isDefault: true,
  warnings: ['without overlay, guests cannot run containers on overlayfs'],
  usedBy: ['web'],
  createdAt: '2026-01-02T03:04:05.678Z',
};

/** Runs `banger …` against an engine that gives one answer, and returns what was asked and printed. */
async function run(argv: readonly string[], answer: unknown): Promise<{ calls: unknown[]; text: string }> {
  const calls: unknown[] = [];
  const printed: string[] = [];
  const cli: Partial<Cli> = {
    cwd: '/home/me',
    call: (async (method: { name: string }, params: unknown) => {
      calls.push([method.name, params]);
      return answer;
    }) as unknown as Cli['call'],
    print: (value, text) => void printed.push(text(value)),
    say: (line) => void printed.push(line),
    forEach: async (names, action, text) => {
      for (const name of names) printed.push(text(await action(name)));
    },
  };
  await runProgram(cli as Cli, argv);
  return { calls, text: printed.join('\n') };
}

test('import sends absolute paths, and says what the kernel lacks and how to boot it', async () => {
  const { calls, text } = await run(
    ['kernel', 'import', 'vmlinuz', '--modules', '../m', '--name', 'mine'],
    view,
  );
  expect(calls).toEqual([
    ['kernel.import', { path: '/home/me/vmlinuz', modulesPath: '/home/m', name: 'mine' }],
  ]);
  expect(text.split('\n')).toEqual([
    'mine (Linux 6.1.0-test, 50 MiB, abababababab)',
    'warning: without overlay, guests cannot run containers on overlayfs',
    'Boot it with: banger vm create --kernel mine',
  ]);
});

test('pull passes address and hash on', async () => {
  const { calls } = await run(['kernel', 'pull', 'https://a.example/k', '--sha256', 'ff'], view);
  expect(calls).toEqual([
    ['kernel.pull', { source: 'https://a.example/k', sha256: 'ff', modules: undefined, name: undefined }],
  ]);
});

test('list marks the default and says who uses what', async () => {
  const { text } = await run(['kernel', 'list'], [view]);
  expect(text).toBe(
    'KERNEL  ID            LINUX       DEFAULT  SIZE    USED BY\n' +
      'mine    abababababab  6.1.0-test  yes      51 MiB  web',
  );
});

test('set-default and delete name what they are about', async () => {
  expect((await run(['kernel', 'set-default', 'embedded'], view)).calls).toEqual([
    ['kernel.set-default', { reference: 'embedded' }],
  ]);
  const { text } = await run(['kernel', 'delete', 'mine'], { untagged: ['mine'], deleted: view.id });
  expect(text).toBe('Untagged mine\nDeleted abababababab');
});

test('vm create hands the kernel on', async () => {
  const vm = { name: 'web', state: 'running', cpus: 1, memoryMib: 256, diskBytes: 1024 ** 3, stages: [] };
  const { calls } = await run(['vm', 'create', '--kernel', 'mine'], vm);
  expect(calls).toMatchObject([['vm.create', { kernel: 'mine' }]]);
});
