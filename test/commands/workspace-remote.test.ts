import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Cli } from '../../src/commands/cli.ts';
import { workspaceRemoteCommand } from '../../src/commands/workspace-remote.ts';

const helperName = 'git-remote-banger';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'banger-test-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const web = { vm: 'web', hostPath: '/src/project', guestPath: '/root/project' };
const other = { vm: 'db', hostPath: '/src/other', guestPath: '/srv/evil\u001b[2J' };

interface Answer {
  readonly calls: unknown[];
  readonly talk: string[];
  printed: unknown;
  text: string;
}

/** Runs the command against an engine that knows some workspaces. */
async function remote(
  words: readonly string[],
  { workspaces = [web] as readonly object[], path = undefined as string | undefined } = {},
): Promise<Answer> {
  const answer: Answer = { calls: [], talk: [], printed: undefined, text: '' };
  const cli = {
    cwd: directory,
    call: async (method: { name: string }, params: unknown) => {
      answer.calls.push([method.name, params]);
      return workspaces;
    },
    print: (value: unknown, text: (value: unknown) => string) => {
      answer.printed = value;
      answer.text = text(value);
    },
    say: (line: string) => void answer.talk.push(line),
  } as unknown as Cli;
  const program = new Command().addCommand(workspaceRemoteCommand(cli, { PATH: path }, '/opt/banger'));
  await program.parseAsync(['remote', ...words], { from: 'user' });
  return answer;
}

/** A directory of a PATH in which git finds banger. */
function withHelper(): string {
  const bin = join(directory, 'bin');
  mkdirSync(bin);
  writeFileSync(join(directory, 'banger'), '#!/bin/sh\n', { mode: 0o755 });
  symlinkSync('../banger', join(bin, helperName));
  return bin;
}

test('the URL of a tree is all of stdout, and nothing is said when git finds the helper', async () => {
  const bin = withHelper();
  const path = `:/nonexistent:${bin}`;
  const { calls, text, talk, printed } = await remote(['tree'], { path });
  expect(calls).toEqual([['workspace.list', { path: join(directory, 'tree'), vm: undefined }]]);
  expect(text).toBe('banger::web/root/project');
  expect(talk).toEqual([]);
  expect(printed).toEqual([{ url: 'banger::web/root/project', ...web, helper: join(bin, helperName) }]);
});

test('of several workspaces each has its URL, which a terminal does not obey', async () => {
  const { text, printed } = await remote([], { workspaces: [web, other], path: withHelper() });
  expect(text.split('\n')).toEqual(['banger::web/root/project', 'banger::db/srv/evil\\x1b[2J']);
  expect(printed).toMatchObject([web, { ...other, url: 'banger::db/srv/evil\u001b[2J' }]);
});

test('a VM alone is asked for all that it has, with a path for that of the tree', async () => {
  const params = async (...words: string[]) => (await remote(words)).calls;
  expect(await params('--vm', 'web')).toEqual([['workspace.list', { path: undefined, vm: 'web' }]]);
  expect(await params('.', '--vm', 'web')).toEqual([['workspace.list', { path: directory, vm: 'web' }]]);
  expect(await params()).toEqual([['workspace.list', { path: directory, vm: undefined }]]);
});

test('where git does not find the helper, how it would is said beside the URL', async () => {
  // A file of that name that cannot be run is none.
  writeFileSync(join(directory, helperName), '', { mode: 0o644 });
  for (const path of [undefined, '/nonexistent', directory]) {
    const { text, talk, printed } = await remote([], { path });
    expect(text).toBe('banger::web/root/project');
    expect(printed).toMatchObject([{ helper: undefined }]);
    expect(talk).toEqual([
      'Git does not find git-remote-banger yet. In a directory of your PATH, once:',
      '  ln -s /opt/banger ~/.local/bin/git-remote-banger',
    ]);
  }
});
