import { expect, test } from 'vitest';
import type { Cli } from '../../src/commands/cli.ts';
import { obeyedCharacters } from '../../src/printable.ts';
import { runProgram } from '../support/run-program.ts';

/** Runs `banger workspace watch WORDS…` against an engine that tells these lines, in pieces of so many bytes. */
async function watch(
  words: readonly string[],
  lines: readonly unknown[],
  { json = false, piece = 65_536 } = {},
) {
  const calls: [string, unknown][] = [];
  const talk: string[] = [];
  let stdout = '';
  const cli = {
    json,
    cwd: '/home/me/tree',
    follow: async (method: { name: string }, params: unknown, onData: (bytes: Buffer) => Promise<void>) => {
      calls.push([method.name, params]);
      const bytes = Buffer.from(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
      for (let at = 0; at < bytes.length; at += piece) await onData(bytes.subarray(at, at + piece));
    },
    write: async (text: string) => void (stdout += text),
    say: (line: string) => void talk.push(line),
  } as unknown as Cli;
  await runProgram(cli, ['workspace', 'watch', ...words]);
  return { calls, talk, stdout, lines: stdout.split('\n').slice(0, -1) };
}

const sent = {
  kind: 'sent',
  vm: 'web',
  hostPath: '/home/me/tree',
  guestPath: '/root/tree',
  preparedAt: '2026-01-01T00:00:00Z',
  files: 2,
  bytes: 2048,
  untracked: 0,
  ignored: 0,
  leftBehind: { branches: 0, tags: 0, stashes: 0 },
  created: false,
  warnings: [],
};
const update = (...conflicts: string[]) => ({ ...sent, update: { removed: 1, kept: [], conflicts } });
const said = (names: string) =>
  `Changed here and in the VM, and left as they are there: ${names}. To replace them: --overwrite`;

test('watch passes its flags on, paths made absolute', async () => {
  const plain = {
    path: '/home/me/tree',
    vm: undefined,
    guestPath: undefined,
    includeUntracked: undefined,
    include: [],
    overwrite: undefined,
    guestBranch: undefined,
  };
  expect((await watch([], [])).calls).toEqual([['workspace.watch', plain]]);
  const words = '../other --vm web --guest-path /srv/x --include-untracked --include .env --overwrite';
  const { calls } = await watch([...words.split(' '), '--branch', 'fix', '--from', 'main'], []);
  expect(calls).toEqual([
    [
      'workspace.watch',
      {
        path: '/home/me/other',
        vm: 'web',
        guestPath: '/srv/x',
        includeUntracked: true,
        include: ['/home/me/other/.env'],
        overwrite: true,
        guestBranch: { name: 'fix', from: 'main' },
      },
    ],
  ]);
  await expect(watch(['--from', 'main'], [])).rejects.toThrow('--from says where a branch');
});

test('each sending is a line with the time, and a failure one with its way out', async () => {
  const failed = { kind: 'failed', message: 'The tree is busy', hint: 'Wait' };
  const { lines, talk } = await watch([], [sent, update(), failed, { kind: 'failed', message: 'Gone' }]);
  expect(lines.map((line) => line.replace(/^\d\d:\d\d:\d\d /, ''))).toEqual([
    'Sent 2 files (2 KiB) to VM "web"',
    'Sent 2 files (2 KiB), removed 1 to VM "web"',
    'The tree is busy. Wait',
    'Gone',
  ]);
  expect(lines.every((line) => /^\d\d:\d\d:\d\d /.test(line))).toBe(true);
  expect(talk).toEqual([]);
});

test('a conflict is said once, until it is about other files or has been gone', async () => {
  const many = ['1', '2', '3', '4', '5', '6', '7'];
  const { talk, lines } = await watch(
    [],
    [update('a'), update('a'), update('a', 'b'), update(), update('a', 'b'), update(...many)],
  );
  expect(talk).toEqual([
    said('"a"'),
    said('"a", "b"'),
    said('"a", "b"'),
    said('"1", "2", "3", "4", "5" and 2 more'),
  ]);
  expect(lines).toHaveLength(6);
});

test.each([1, 2, 3, 7])('lines that are cut anywhere, after %i bytes too, are read whole', async (piece) => {
  const names = ['größe', '木', '🦀'];
  const { talk, lines } = await watch([], [update(...names), { kind: 'failed', message: 'größe 🦀' }], {
    piece,
  });
  expect(talk).toEqual([said('"größe", "木", "🦀"')]);
  expect(lines.map((line) => line.slice(9))).toEqual([
    'Sent 2 files (2 KiB), removed 1 to VM "web"',
    'größe 🦀',
  ]);
  const told = await watch([], [update(...names)], { piece, json: true });
  expect(JSON.parse(told.stdout)).toEqual(update(...names));
});

const hostile = 'a\u001b]0;title\u0007\u009b31m\u202egnp\r\nSent 9 files';
const obeyed = new RegExp(obeyedCharacters);

test('A25: paths and words that a terminal would obey are shown, on the line where they belong', async () => {
  const failed = { kind: 'failed', message: hostile, hint: hostile };
  const { talk, lines } = await watch([], [update(hostile), failed]);
  expect(lines).toHaveLength(2);
  expect(talk).toHaveLength(1);
  for (const line of [...lines, ...talk]) expect(line).not.toMatch(obeyed);
  expect(lines[1]).toContain('a\\x1b]0;title\\x07\\x9b31m\\u{202e}gnp');
});

test('under --json each line is what the engine tells, the same value and harmless to print; nothing is said', async () => {
  const told = [update(hostile), update(hostile), { kind: 'failed', message: hostile }];
  const { lines, talk } = await watch([], told, { json: true });
  expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual(told);
  for (const line of lines) expect(line).not.toMatch(obeyed);
  expect(talk).toEqual([]);
});
