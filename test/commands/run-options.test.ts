import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Cli } from '../../src/commands/cli.ts';
import { BangerError } from '../../src/errors.ts';
import { buildProgram } from '../../src/commands/program.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'banger-test-'));
  call = async () => ({ hostPath: directory });
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const own = { FROM_HERE: 'here', TOKEN: 'hunter2', SSH_AUTH_SOCK: 'agent.sock' };

/** What the engine says of the tree */
let call: () => Promise<unknown>;

/** Runs `banger WORDS…`; resolves to what the engine is asked for, and what it must not have in its environment. */
async function run(words: readonly string[]) {
  const calls: Record<string, unknown>[] = [];
  const kept: string[] = [];
  const cli = {
    json: false,
    cwd: directory,
    call: () => call(),
    attach: async (_method: unknown, params: Record<string, unknown>) => {
      calls.push(params);
      return { code: 0, vm: 'swift-otter', removed: true, stages: [] };
    },
    keepFromEngine: (name: string) => void kept.push(name),
    programTerminal: () => undefined,
    print: () => undefined,
    say: () => undefined,
    exitWith: () => undefined,
  } as unknown as Cli;
  const program = await buildProgram(
    {
      cli,
      env: own,
      build: { version: '1.2.3', buildId: 'build' },
      program: '/opt/banger',
      doctor: { layout: {} as never, temporaryDirectory: '/tmp' },
      setJson: () => undefined,
    },
    words,
  );
  await program.parseAsync([...words], { from: 'user' });
  return { params: calls[0]!, kept };
}

const port = { protocol: 'tcp', bind: '127.0.0.1' };

test.each([
  [['--env', 'MODE=dev', '-e', 'FROM_HERE', '--', 'make'], { env: { MODE: 'dev', FROM_HERE: 'here' } }],
  [['--workdir', '/srv', '--', 'ls'], { workingDirectory: '/srv' }],
  [['.', '-w', 'sub', '--', 'ls'], { workingDirectory: 'sub' }],
  [['--user', 'app', '--', 'id'], { user: 'app' }],
  [
    ['-p', '8080:80', '-p', '443', '--', 'serve'],
    {
      publish: [
        { ...port, hostPort: 8080, guestPort: 80 },
        { ...port, guestPort: 443 },
      ],
    },
  ],
  // As docker's users write it: what it asks for is so anyway.
  [['-it', '--', 'sh'], { argv: ['sh'] }],
  [['--', 'x'], { env: {}, secrets: {}, agentSocket: undefined }],
])('run %j passes on %j', async (words, expected) => {
  expect((await run(['vm', 'run', ...words])).params).toMatchObject(expected);
});

test('an image where the path goes is told how an image is named', async () => {
  call = () => Promise.reject(new BangerError('not_found', 'There is no directory "/src/alpine"'));
  await expect(run(['vm', 'run', 'alpine', '--', 'ls', '/'])).rejects.toMatchObject({
    message: 'There is no directory "/src/alpine"',
    hint: 'Give a directory of a git working tree. An image is named with: banger vm run --image alpine -- ls /',
  });
});

test.each([
  ['run', []],
  ['ssh', ['web']],
])(
  '%s lends secrets by name and the agent, and keeps them from an engine that it starts',
  async (verb, vm) => {
    writeFileSync(join(directory, 'key'), 'of a file\n');
    const lent = ['--secret', 'TOKEN', '--secret', 'OTHER=TOKEN', '--secret-file', 'KEY=key', '--ssh-agent'];
    const { params, kept } = await run(['vm', verb, ...lent, ...vm, '--', 'make']);
    expect(params).toMatchObject({
      secrets: { TOKEN: 'hunter2', OTHER: 'hunter2', KEY: 'of a file\n' },
      agentSocket: join(directory, 'agent.sock'),
    });
    expect(kept).toEqual(['TOKEN', 'TOKEN']);
    // Of nothing else that is asked.
    const { secrets, ...rest } = params;
    expect(Object.keys(secrets as object)).toEqual(['TOKEN', 'OTHER', 'KEY']);
    expect(JSON.stringify(rest)).not.toContain('hunter2');
  },
);

test.each([[['--secret', 'TOKEN']], [['--secret-file', 'KEY=key']], [['--ssh-agent']]])(
  'run -d %j is refused, with the line that lends it to what runs later',
  async (words) => {
    await expect(run(['vm', 'run', '-d', ...words])).rejects.toMatchObject({
      code: 'invalid_argument',
      message: '--detach runs nothing that a secret or an SSH agent could be lent to',
      hint: expect.stringContaining('banger vm exec') as string,
    });
  },
);
