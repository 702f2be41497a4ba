import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Cli } from '../../src/commands/cli.ts';
import { runProgram } from '../support/run-program.ts';

interface Recorded {
  readonly calls: { readonly method: string; readonly params: unknown }[];
  stdout: Buffer;
  readonly talk: string[];
}

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'banger-test-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** Runs the command against an engine that gives one answer. */
async function run(argv: readonly string[], answer: unknown, json = false): Promise<Recorded> {
  const recorded: Recorded = { calls: [], stdout: Buffer.alloc(0), talk: [] };
  const write = (bytes: Buffer | string): void => {
    recorded.stdout = Buffer.concat([recorded.stdout, Buffer.from(bytes)]);
  };
  const cli = {
    json,
    cwd: directory,
    call: async (method: { name: string }, params: unknown) => {
      recorded.calls.push({ method: method.name, params });
      return answer;
    },
    print: (value: unknown, text: (value: unknown) => string) =>
      write(json ? JSON.stringify(value) : text(value)),
    write: async (bytes: Buffer | string) => write(bytes),
    say: (line: string) => void recorded.talk.push(line),
  } as unknown as Cli;
  await runProgram(cli, ['workspace', ...argv]);
  return recorded;
}

const prepared = {
  vm: 'web',
  hostPath: '/src/project',
  guestPath: '/root/project',
  preparedAt: '2026-01-01T00:00:00Z',
  files: 1,
  bytes: 2048,
  untracked: 2,
  created: true,
  warnings: ['odd \u001b[31mname'],
};

const patch = Buffer.from([0x64, 0x69, 0xff, 0x00, 0x0a]);
const exported = {
  vm: 'web',
  hostPath: '/src/project',
  guestPath: '/root/project',
  baseTree: 'a'.repeat(40),
  tree: 'b'.repeat(40),
  patch: patch.toString('base64'),
  files: [
    { path: 'src/a.ts', status: 'modified', added: 2, removed: 1 },
    { path: 'evil\u001b]0;title\u0007', status: 'added' },
  ],
  warnings: [],
};

test('prepare sends the current directory, and says what stayed behind', async () => {
  const { calls, stdout, talk } = await run(['prepare'], prepared);
  expect(calls).toEqual([
    {
      method: 'workspace.prepare',
      params: {
        path: directory,
        vm: undefined,
        guestPath: undefined,
        includeUntracked: false,
        overwrite: false,
      },
    },
  ]);
  expect(stdout.toString()).toBe('web:/root/project');
  expect(talk).toEqual([
    'Warning: odd \\x1b[31mname',
    '2 untracked files stayed behind; to send untracked files: --include-untracked',
    'Sent 1 file (2 KiB) to the new VM "web"',
  ]);
});

test('prepare passes its flags on, a relative path made absolute', async () => {
  const { calls } = await run(
    ['prepare', 'sub/..', '--vm', 'db', '--guest-path', '/srv/p', '--include-untracked', '--overwrite'],
    prepared,
  );
  expect(calls[0]?.params).toEqual({
    path: directory,
    vm: 'db',
    guestPath: '/srv/p',
    includeUntracked: true,
    overwrite: true,
  });
});

test('export writes the patch to stdout byte for byte', async () => {
  const { calls, stdout, talk } = await run(['export'], exported);
  expect(calls[0]?.params).toEqual({ path: directory, vm: undefined });
  expect(stdout).toEqual(patch);
  expect(talk).toEqual(['2 files changed in VM "web": 2 lines added, 1 removed']);
});

test('export of a VM alone leaves the choice of the tree to the engine', async () => {
  const { calls } = await run(['export', '--vm', 'web'], exported);
  expect(calls[0]?.params).toEqual({ path: undefined, vm: 'web' });
});

test('names from the guest are printed so that a terminal does not obey them', async () => {
  expect((await run(['export', '--name-only'], exported)).stdout.toString()).toBe(
    'src/a.ts\nevil\\x1b]0;title\\x07',
  );
  expect((await run(['export', '--stat'], exported)).stdout.toString()).toBe(
    'M        +2 -1  src/a.ts\nA       binary  evil\\x1b]0;title\\x07',
  );
});

test('export -o writes the file and nothing to stdout', async () => {
  const { stdout } = await run(['export', '-o', 'fix.patch'], exported);
  expect(stdout).toHaveLength(0);
  expect(readFileSync(join(directory, 'fix.patch'))).toEqual(patch);
  await expect(run(['export', '-o', 'none/fix.patch'], exported)).rejects.toMatchObject({
    code: 'invalid_argument',
  });
});

test('under --json the object is all of stdout', async () => {
  const { stdout } = await run(['export'], exported, true);
  expect(JSON.parse(stdout.toString())).toEqual(exported);
});
