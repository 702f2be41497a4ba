import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
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
async function run(
  argv: readonly string[],
  answer: unknown,
  { json = false, content = Buffer.alloc(0) as Buffer, isTerminal = false, pieceBytes = 7 } = {},
): Promise<Recorded> {
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
    follow: async (method: { name: string }, params: unknown, onData: (piece: Buffer) => Promise<void>) => {
      recorded.calls.push({ method: method.name, params });
      for (const line of answer as unknown[]) await onData(Buffer.from(`${JSON.stringify(line)}\n`));
    },
    transfer: async (
      method: { name: string },
      params: unknown,
      { output }: { output: (piece: Buffer) => Promise<void> },
    ) => {
      recorded.calls.push({ method: method.name, params });
      const bytes = Buffer.concat([Buffer.from(`${JSON.stringify(answer)}\n`), content]);
      // Pieces that begin and end anywhere.
      for (let at = 0; at < bytes.length; at += pieceBytes) await output(bytes.subarray(at, at + pieceBytes));
    },
    printsToTerminal: isTerminal,
    columns: isTerminal ? 60 : undefined,
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
  ignored: 1,
  leftBehind: { branches: 0, tags: 0, stashes: 0 },
  created: true,
  warnings: ['odd \u001b[31mname'],
};

const patch = Buffer.from([0x64, 0x69, 0xff, 0x00, 0x1b, 0x0a]);
const exported = {
  vm: 'web',
  hostPath: '/src/project',
  guestPath: '/root/project',
  baseTree: 'a'.repeat(40),
  files: [
    { path: 'src/a.ts', status: 'modified', added: 2, removed: 1 },
    { path: 'evil\u001b]0;title\u0007', status: 'added', oldBytes: 0, newBytes: 12 },
  ],
  warnings: [],
};

test('prepare sends the current directory, and says what stayed behind', async () => {
  const { calls, stdout, talk } = await run(['prepare'], prepared);
  expect(calls).toEqual([
    {
      method: 'template.read',
      params: { path: directory, hasImage: false, toolsOnly: false, unlessBound: true },
    },
    {
      method: 'workspace.prepare',
      params: {
        path: directory,
        template: undefined,
        vm: undefined,
        guestPath: undefined,
        includeUntracked: false,
        include: [],
        bootstrap: true,
        overwrite: false,
        fullHistory: false,
        readonly: false,
      },
    },
  ]);
  expect(stdout.toString()).toBe('web:/root/project');
  expect(talk).toEqual([
    'Warning: odd \\x1b[31mname',
    '2 untracked files stay behind; to send untracked files: --include-untracked',
    '1 ignored path stays behind; to send one, such as .env: --include .env',
    'Sent 1 file (2 KiB) to the new VM "web"',
  ]);
});

test('a first prepare says what else of the repository stayed behind; the next one does not again', async () => {
  const leftBehind = { branches: 1, tags: 2, stashes: 3 };
  const first = { ...prepared, leftBehind, warnings: [], untracked: 0, ignored: 0 };
  expect((await run(['prepare'], first)).talk).toEqual([
    '1 other branch, 2 tags and 3 stashes stay behind',
    'Sent 1 file (2 KiB) to the new VM "web"',
  ]);
  const next = { ...first, created: false, update: { removed: 0, kept: [], conflicts: [] } };
  expect((await run(['prepare'], next)).talk).toEqual(['Sent 1 file (2 KiB) to VM "web"']);
});

test('watch says what stayed behind with the first sending, and not again', async () => {
  const leftBehind = { branches: 0, tags: 0, stashes: 1 };
  const update = { removed: 0, kept: [], conflicts: [] };
  const sent = { kind: 'sent', ...prepared, leftBehind, update, created: false };
  const { calls, stdout, talk } = await run(['watch', '--vm', 'web'], [sent, sent]);
  expect(calls).toMatchObject([{ method: 'workspace.watch', params: { path: directory, vm: 'web' } }]);
  expect(stdout.toString()).toMatch(/^(?:\d\d:\d\d:\d\d Sent 1 file \(2 KiB\) to VM "web"\n){2}$/);
  expect(talk).toEqual([
    'Warning: odd \\x1b[31mname',
    '2 untracked files stay behind; to send untracked files: --include-untracked',
    '1 ignored path stays behind; to send one, such as .env: --include .env',
    '1 stash stays behind',
  ]);
  const inJson = await run(['watch', '--vm', 'web'], [sent], { json: true });
  expect(JSON.parse(inJson.stdout.toString())).toEqual(sent);
  expect(inJson.talk).toEqual([]);
});

test('watch tells a warning that was not there before, and not those that were', async () => {
  const update = { removed: 0, kept: [], conflicts: [] };
  const sent = { kind: 'sent', ...prepared, untracked: 0, ignored: 0, update, created: false };
  const lines = [['one'], ['one', 'two'], ['one', 'two'], ['one'], ['two']].map((warnings) => ({
    ...sent,
    warnings,
  }));
  const { talk } = await run(['watch', '--vm', 'web'], lines);
  expect(talk).toEqual(['one', 'two', 'two'].map((warning) => `Warning: ${warning}`));
});

test('a dry run lists what would travel, and calls for no VM', async () => {
  const files = [
    { path: 'a', bytes: 2048 },
    { path: 'odd \u001b[31mname', bytes: 0 },
  ];
  const content = Buffer.from(files.map((file) => `${JSON.stringify(file)}\n`).join(''));
  const plan = {
    hostPath: '/src/project',
    count: 2,
    repositoryBytes: 1024,
    bytes: 3072,
    untracked: 0,
    ignored: 0,
    leftBehind: { branches: 2, tags: 1, stashes: 1 },
    warnings: [],
  };
  const include = ['prepare', 'tree', '--include', '.env', '--include', 'build/out'];
  const { calls, stdout, talk } = await run([...include, '--dry-run'], plan, { content });
  expect(calls).toEqual([
    {
      method: 'workspace.plan',
      params: {
        path: join(directory, 'tree'),
        includeUntracked: false,
        include: [join(directory, 'tree/.env'), join(directory, 'tree/build/out')],
      },
    },
  ]);
  expect(stdout.toString().split('\n')).toEqual(['     2 KiB  a', '       0 B  odd \\x1b[31mname']);
  expect(talk).toEqual([
    '2 other branches, 1 tag and 1 stash stay behind',
    'Would send 2 files (2 KiB) and the repository (1 KiB)',
  ]);
});

test('a dry run in JSON is one object with the whole list', async () => {
  const files = Array.from({ length: 5000 }, (_, index) => ({
    path: `${'dir/'.repeat(1000)}${index}`,
    bytes: index,
  }));
  const head = {
    hostPath: '/src/project',
    count: files.length,
    repositoryBytes: 1024,
    bytes: 3072,
    untracked: 0,
    ignored: 0,
    leftBehind: { branches: 0, tags: 0, stashes: 0 },
    warnings: [],
  };
  const content = Buffer.from(files.map((file) => `${JSON.stringify(file)}\n`).join(''));
  const { stdout } = await run(['prepare', '--dry-run'], head, { content, json: true, pieceBytes: 65_536 });
  expect(content.length).toBeGreaterThan(16 * 1024 * 1024);
  expect(JSON.parse(stdout.toString())).toEqual({ ...head, files });
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
    include: [],
    bootstrap: true,
    overwrite: true,
    fullHistory: false,
    readonly: false,
  });
  const branch = await run(['prepare', '--branch', 'fix', '--from', 'v1'], prepared);
  expect(branch.calls.at(-1)?.params).toMatchObject({ guestBranch: { name: 'fix', from: 'v1' } });
  await expect(run(['prepare', '--from', 'v1'], prepared)).rejects.toThrow('--from says where');
});

test('the whole history and a read-only tree are asked for by their flags', async () => {
  const { calls } = await run(['prepare', '--full-history', '--readonly'], prepared);
  expect(calls.at(-1)).toMatchObject({
    method: 'workspace.prepare',
    params: { fullHistory: true, readonly: true, overwrite: false, includeUntracked: false },
  });
  const one = await run(['prepare', '--readonly'], prepared);
  expect(one.calls.at(-1)?.params).toMatchObject({ fullHistory: false, readonly: true });
});

test('export writes the patch to stdout byte for byte', async () => {
  const { calls, stdout, talk } = await run(['export'], exported, { content: patch });
  expect(calls).toEqual([
    { method: 'workspace.export', params: { path: directory, vm: undefined, format: 'patch' } },
  ]);
  expect(stdout).toEqual(patch);
  expect(talk).toEqual(['2 files changed in VM "web": 2 lines added, 1 removed']);
});

test('on a terminal, the patch shows what the terminal would obey', async () => {
  const content = Buffer.from('+größe \u001b[2J\u202e\n');
  const { stdout } = await run(['export'], exported, { content, isTerminal: true });
  expect(stdout.toString()).toBe('+größe \\x1b[2J\\u{202e}\n');
});

test('export of a VM alone leaves the choice of the tree to the engine', async () => {
  const { calls } = await run(['export', '--vm', 'web'], exported);
  expect(calls[0]?.params).toEqual({ path: undefined, vm: 'web', format: 'patch' });
});

test('names from the guest are printed so that a terminal does not obey them', async () => {
  const { calls, stdout } = await run(['export', '--name-only'], exported);
  expect(calls[0]?.params).toMatchObject({ format: 'list' });
  expect(stdout.toString()).toBe('src/a.ts\nevil\\x1b]0;title\\x07');
  expect((await run(['export', '--stat'], exported)).stdout.toString()).toBe(
    ' src/a.ts             |   3 ++-\n evil\\x1b]0;title\\x07 | Bin 0 -> 12 bytes\n 2 files changed, 2 insertions(+), 1 deletion(-)',
  );
  expect((await run(['export', '--name-only', '-z'], exported)).stdout.toString()).toBe(
    'src/a.ts\0evil\u001b]0;title\u0007\0',
  );
});

test('export -o writes the file when all of it is there, and nothing to stdout', async () => {
  const { stdout } = await run(['export', '-o', 'fix.patch'], exported, { content: patch });
  expect(stdout).toHaveLength(0);
  expect(readFileSync(join(directory, 'fix.patch'))).toEqual(patch);
  expect(readdirSync(directory)).toEqual(['fix.patch']);
});

test.each([
  ['none/fix.patch', 'there is no directory for it'],
  ['.', 'it is a directory'],
])('export -o %s is refused', async (file, why) => {
  await expect(run(['export', '-o', file], exported, { content: patch })).rejects.toMatchObject({
    code: 'invalid_argument',
    message: expect.stringContaining(why) as string,
  });
});

test('under --json the object is all of stdout, with the patch unless it went to a file', async () => {
  const { stdout } = await run(['export'], exported, { json: true, content: patch });
  expect(JSON.parse(stdout.toString())).toEqual({ ...exported, patch: patch.toString('base64') });
  const saved = await run(['export', '-o', 'fix.patch'], exported, { json: true, content: patch });
  expect(JSON.parse(saved.stdout.toString())).toEqual({ ...exported, path: join(directory, 'fix.patch') });
});

const [one, two] = ['1'.repeat(40), '2'.repeat(40)];
const committed = {
  ...exported,
  commits: [
    { oid: one, subject: '../../first: things' },
    { oid: two, subject: 'second' },
  ],
  merged: [{ oid: '3'.repeat(40), subject: 'a merge \u001b[2J' }],
};
const mails = [
  `From ${one} Mon Sep 17 00:00:00 2001\nSubject: first\n\nFrom ${'4'.repeat(40)} Mon Sep 17 00:00:00 2001\nnot a mail\n\n`,
  `From ${two} Mon Sep 17 00:00:00 2001\nSubject: second\n\n---\n`,
];

test('commits are an mbox on stdout, and what it has not is said', async () => {
  const { calls, stdout, talk } = await run(['export', '--commits'], committed, {
    content: Buffer.from(mails.join('')),
  });
  expect(calls[0]?.params).toMatchObject({ format: 'commits' });
  expect(stdout.toString()).toBe(mails.join(''));
  expect(talk).toEqual([
    '2 commits of VM "web"',
    'In the mail of a merge: 333333333333 a merge \\x1b[2J',
    'Left out: changes in 2 files that are not committed in the VM; the patch has them, without --commits',
  ]);
});

test('with -o each commit has a file, whatever its text says', async () => {
  const content = Buffer.from(mails.join(''));
  const { stdout } = await run(['export', '--commits', '-o', 'out'], committed, { content });
  const names = ['0001-first-things.patch', '0002-second.patch'];
  expect(readdirSync(join(directory, 'out')).sort()).toEqual(names);
  expect(names.map((name) => readFileSync(join(directory, 'out', name), 'utf8'))).toEqual(mails);
  expect(stdout.toString()).toBe(names.map((name) => join(directory, 'out', name)).join('\n'));
  await expect(run(['export', '--commits', '-o', 'out'], committed, { content })).rejects.toMatchObject({
    code: 'already_exists',
  });
});

test('fewer mails than commits are an error, and nothing is written', async () => {
  const content = Buffer.from(mails[0]!);
  await expect(run(['export', '--commits', '-o', 'out'], committed, { content })).rejects.toThrow(
    '1 mails for 2 commits',
  );
  expect(readdirSync(directory)).toEqual([]);
});
