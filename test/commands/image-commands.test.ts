import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { Cli } from '../../src/commands/cli.ts';

import { runProgram } from '../support/run-program.ts';
import type { ImageDetails, ImageView } from '../../src/engine/rpc/image-methods.ts';

const view: ImageView = {
  id: 'a'.repeat(64),
  names: ['ubuntu:24.04'],
  source: 'pull',
  digests: {},
  sizeBytes: 8 * 1024 ** 3,
  contentBytes: 80 * 1024 ** 2,
  os: 'Ubuntu \u001b[31m24.04',
  hasShell: true,
  createdAt: '2026-01-02T03:04:05.678Z',
  usedBy: ['db', 'web'],
};

/** Runs `banger image …` against an engine that gives one answer, and returns what was asked and printed. */
async function run(
  argv: readonly string[],
  answer: unknown,
  cwd = '/home/me',
): Promise<{ calls: unknown[]; text: string }> {
  const calls: unknown[] = [];
  const printed: string[] = [];
  const cli: Partial<Cli> = {
    cwd,
    call: (async (method: { name: string }, params: unknown) => {
      calls.push([method.name, params]);
      return answer;
    }) as unknown as Cli['call'],
    detach: (async (method: { name: string }, params: unknown) => {
      calls.push([method.name, params, 'detached']);
      return `op-${calls.length}`;
    }) as unknown as Cli['detach'],
    print: (value, text) => void printed.push(text(value)),
    say: () => undefined,
    forEach: async (names, action, text) => {
      for (const name of names) printed.push(text(await action(name)));
    },
  };
  await runProgram(cli as Cli, ['image', ...argv]);
  return { calls, text: printed.join('\n') };
}

test('pull takes several references and says what came', async () => {
  const { calls, text } = await run(['pull', 'ubuntu', 'debian'], view);
  expect(calls).toEqual([
    ['image.pull', { reference: 'ubuntu' }],
    ['image.pull', { reference: 'debian' }],
  ]);
  expect(text.split('\n')[0]).toBe('ubuntu:24.04 (Ubuntu \\x1b[31m24.04, 80 MiB, aaaaaaaaaaaa)');
});

test('--detach leaves each pull and an import to the engine, and prints the ids of their operations', async () => {
  const pulls = await run(['pull', 'ubuntu', './app.tar.zst', '--detach'], view);
  expect(pulls.calls).toMatchObject([
    ['image.pull', { reference: 'ubuntu' }, 'detached'],
    ['image.pull-bundle', { source: '/home/me/app.tar.zst' }, 'detached'],
  ]);
  expect(pulls.text).toBe('op-1\nop-2');
  const imported = await run(['import', 'app.tar', '--detach'], view);
  expect(imported.calls).toEqual([['image.import', { path: '/home/me/app.tar', name: 'app' }, 'detached']]);
  expect(imported.text).toBe('op-1');
  await expect(run(['import', '-', '--name', 'app', '--detach'], view)).rejects.toThrow(
    'Standard input ends with this command',
  );
});

test.each([
  ['d.tar.zst', 'banger image pull ./d.tar.zst'],
  ['d.tar', 'banger image import d.tar'],
  ['d.tar.gz', 'banger image import d.tar.gz'],
  ['d.ext4', 'banger image register d.ext4 --name NAME'],
])('a pull of "%s", which is a file here, says what takes it', async (name, taker) => {
  const cwd = mkdtempSync(join(tmpdir(), 'bt-files-'));
  onTestFinished(() => rmSync(cwd, { recursive: true }));
  writeFileSync(join(cwd, name), '');
  writeFileSync(join(cwd, 'debian'), '');
  await expect(run(['pull', name], view, cwd)).rejects.toMatchObject({
    message: `"${name}" is a file here, and without ./ in front it is the name of an image in a registry`,
    hint: `To take the file: ${taker}`,
  });
  // What is not here may well be an image, and what could be one is.
  for (const other of [`other${name}`, 'debian'])
    expect((await run(['pull', other], view, cwd)).calls).toEqual([['image.pull', { reference: other }]]);
});

test.each([
  ['app.tar', 'app'],
  ['My Image-1.2.tar.gz', 'my-image-1.2'],
  ['../x/Rootfs__a.tgz', 'rootfs__a'],
  ['/abs/-_.tar.zst', 'imported'],
  ['base.tar', 'imported'],
  ['layout/', 'layout'],
  ['a..b_-c.tar', 'a.b-c'],
])('import names %s "%s"', async (path, name) => {
  const { calls } = await run(['import', path], view);
  const absolute = path.startsWith('/')
    ? path
    : new URL(path, 'file:///home/me/').pathname.replaceAll('%20', ' ');
  expect(calls).toEqual([['image.import', { path: absolute.replace(/\/$/, ''), name }]]);
});

test('import takes a name', async () => {
  const { calls } = await run(['import', 'a.tar', '--name', 'team/app:1'], view);
  expect(calls).toEqual([['image.import', { path: '/home/me/a.tar', name: 'team/app:1' }]]);
});

test('list is a table that images cannot write colours into', async () => {
  const nameless = { ...view, names: [], os: '', usedBy: [] };
  const { text } = await run(['ls'], [view, nameless]);
  expect(text.split('\n')).toEqual([
    'IMAGE         ID            OS                    SIZE    CREATED           USED BY',
    'ubuntu:24.04  aaaaaaaaaaaa  Ubuntu \\x1b[31m24.04  80 MiB  2026-01-02 03:04  db, web',
    '<none>        aaaaaaaaaaaa                        80 MiB  2026-01-02 03:04',
  ]);
});

test('list has a row for each name, and room for more than a digest', async () => {
  const digest = `sha256:${'0123456789abcdef'.repeat(4)}`;
  const names = ['app:1', 'team/app:stable', `team/app@${digest}`];
  const { text } = await run(['ls'], [{ ...view, names, os: 'Debian GNU/Linux 12 (bookworm)' }]);
  expect(text.split('\n')).toEqual([
    'IMAGE                          ID            OS                   SIZE    CREATED           USED BY',
    'app:1                          aaaaaaaaaaaa  Debian GNU/Linux 12  80 MiB  2026-01-02 03:04  db, web',
    'team/app:stable                aaaaaaaaaaaa',
    'team/app@sha256:0123456789ab…  aaaaaaaaaaaa',
  ]);
});

test('list -q prints ids only, and nothing when there are none', async () => {
  expect((await run(['list', '-q'], [view])).text).toBe('aaaaaaaaaaaa');
  expect((await run(['list', '-q'], [])).text).toBe('');
});

test('show leaves out what is not known', async () => {
  const details: ImageDetails = {
    ...view,
    layers: [{ digest: 'sha256:1', sizeBytes: 2048, isCached: true }],
    config: { env: ['A=1', 'B=\u0007'], command: ['/bin/sh'] },
    osRelease: {},
  };
  const { calls, text } = await run(['inspect', 'ubuntu'], details);
  expect(calls).toEqual([['image.show', { reference: 'ubuntu' }]]);
  expect(text).toContain(
    'Command:    ["/bin/sh"]\nEnv:        A=1\nEnv:        B=\\x07\nLayer:      sha256:1 2 KiB (cached)',
  );
  expect(text).not.toMatch(/Entrypoint|Digest/);
});

test('show ends, however many variables an image has', async () => {
  const env = Array.from({ length: 150_000 }, (_, index) => `V${index}=x`);
  const details: ImageDetails = { ...view, layers: [], config: { env }, osRelease: {} };
  const lines = (await run(['show', 'many'], details)).text
    .split('\n')
    .filter((line) => line.startsWith('Env:'));
  expect(lines).toHaveLength(301);
  expect(lines.at(-1)).toMatch(/… and 149700 more, which --json shows$/);
});

test('delete says what lost its name and what is gone', async () => {
  expect((await run(['rm', 'a'], { untagged: ['a:latest'], deleted: null })).text).toBe('Untagged a:latest');
  expect((await run(['delete', 'a'], { untagged: ['a:latest'], deleted: 'b'.repeat(64) })).text).toBe(
    'Untagged a:latest\nDeleted bbbbbbbbbbbb',
  );
});

test('list leaves no room for a name that is too long', async () => {
  const { text } = await run(['ls'], [{ ...view, os: 'x'.repeat(60_000) }]);
  expect(text).toContain(`${'x'.repeat(39)}…`);
  expect(text.length).toBeLessThan(400);
});

test.each(['export', 'bundle'])('%s to - is to standard output', async (verb) => {
  const written: string[] = [];
  const transfer = async (
    _method: unknown,
    _params: unknown,
    ends: { output: (chunk: Buffer) => Promise<void> },
  ) => {
    await ends.output(Buffer.from('archive'));
    return {
      digest: `sha256:${'a'.repeat(64)}`,
      original: true,
      layers: 1,
      sha256: 'a'.repeat(64),
      sizeBytes: 7,
    };
  };
  const cli = {
    cwd: '/nowhere',
    printsToTerminal: false,
    transfer,
    write: async (chunk: Buffer) => void written.push(chunk.toString()),
  } as unknown as Cli;
  await runProgram(cli, ['image', verb, 'app', '-o', '-']);
  expect(written).toEqual(['archive']);
});
