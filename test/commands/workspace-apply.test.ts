import { expect, test } from 'vitest';
import type { Cli } from '../../src/commands/cli.ts';
import { runProgram } from '../support/run-program.ts';

/** Runs the command against an engine that gives one answer. */
async function run(argv: readonly string[], answer: object, json = false) {
  const seen = { params: undefined as unknown, stdout: '', talk: [] as string[], exitCode: 0 };
  const cli = {
    json,
    cwd: '/src/project/sub',
    columns: undefined,
    call: async (_: unknown, params: unknown) => {
      seen.params = params;
      return answer;
    },
    print: (value: unknown, text: (value: unknown) => string) => {
      seen.stdout = json ? JSON.stringify(value) : text(value);
    },
    say: (line: string) => void seen.talk.push(line),
    exitWith: (code: number) => void (seen.exitCode = code),
  } as unknown as Cli;
  await runProgram(cli, ['workspace', 'apply', ...argv]);
  return seen;
}

const place = { vm: 'web', hostPath: '/src/project', guestPath: '/root/project', warnings: [] };
const change = { status: 'modified', added: 2, removed: 1, isWritten: true };
const clean = {
  ...place,
  files: [
    { ...change, path: 'src/a.ts', outcome: 'applied' },
    { ...change, path: 'b', outcome: 'merged' },
    { path: 'bin', status: 'added', oldBytes: 0, newBytes: 9, isWritten: true, outcome: 'applied' },
    { ...change, path: 'here', outcome: 'present', added: 0, removed: 0, isWritten: false },
  ],
  isApplied: true,
  hasConflicts: false,
};
const clash = {
  ...place,
  files: [
    { ...change, path: 'a', outcome: 'applied' },
    {
      ...change,
      path: 'b\u001b[2J',
      outcome: 'conflict',
      conflict: 'content',
      reason: 'Merge conflict in b\u001b[2J',
      isWritten: false,
    },
  ],
  isApplied: false,
  hasConflicts: true,
};

test('the diffstat is of what was written here, as git prints it, and merges are told in its words', async () => {
  const { params, stdout, talk, exitCode } = await run([], clean);
  expect(params).toEqual({
    path: '/src/project/sub',
    vm: undefined,
    dryRun: false,
    markers: false,
    ours: [],
    umask: process.umask(),
  });
  expect(stdout).toBe(
    [
      'Auto-merging b',
      ' src/a.ts |   3 ++-',
      ' b        |   3 ++-',
      ' bin      | Bin 0 -> 9 bytes',
      ' 3 files changed, 4 insertions(+), 2 deletions(-)',
    ].join('\n'),
  );
  expect(talk).toEqual(['Applied 3 files to /src/project']);
  expect(exitCode).toBe(0);
});

test('a conflict is a failure, told as git tells it, with the command that goes on', async () => {
  const { stdout, talk, exitCode } = await run(['--vm', 'web'], clash);
  expect(stdout.split('\n')[0]).toBe('CONFLICT (content): Merge conflict in b\\x1b[2J');
  expect(stdout).toContain(' a | 3 ++-');
  expect(talk).toEqual([
    'Nothing was written: 1 file in conflict. Write the others, and conflict markers, with: banger workspace apply --vm web --markers; keep yours of a file with --ours FILE',
  ]);
  expect(exitCode).toBe(1);
});

test('with markers it says what is to be resolved, and how it is found', async () => {
  const files = clash.files.map((file) => ({ ...file, isWritten: true }));
  const { talk, exitCode } = await run(['.', '--markers'], { ...clash, files, isApplied: true });
  expect(talk).toEqual([
    'Applied 1 file to /src/project. Resolve the conflicts in 1 file; find markers with: git diff --check',
  ]);
  expect(exitCode).toBe(1);
});

test.each(['--check', '--dry-run'])('%s says that nothing was written, and what writes it', async (flag) => {
  const { params, talk, exitCode } = await run(['.', flag], { ...clean, isApplied: false });
  expect(params).toMatchObject({ dryRun: true });
  expect(talk).toEqual(['Nothing was written. Write it with: banger workspace apply .']);
  expect(exitCode).toBe(0);
});

test('files that are to stay as they are go along, also in what goes on', async () => {
  const { params, talk } = await run(['.', '--ours', 'bin', '--ours', 'a b'], clash);
  expect(params).toMatchObject({ ours: ['bin', 'a b'] });
  expect(talk).toEqual([expect.stringContaining(`apply . --ours bin --ours 'a b' --markers; keep`)]);
});

test('nothing to write, and nothing changed, are told apart', async () => {
  const files = [clean.files[3]!];
  expect((await run([], { ...clean, files })).talk).toEqual([
    'Nothing to write: /src/project has all changes of VM "web"',
  ]);
  expect((await run([], { ...clean, files: [] })).talk).toEqual(['No changes in VM "web"']);
});

test('under --json it is the answer as it is, with the exit code of a conflict', async () => {
  const { stdout, exitCode } = await run([], clash, true);
  expect(JSON.parse(stdout)).toEqual(clash);
  expect(exitCode).toBe(1);
});
