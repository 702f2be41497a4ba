import { PassThrough, Readable } from 'node:stream';
import { expect, test } from 'vitest';
import type { Cli } from '../../src/commands/cli.ts';
import { gitRemote, parseRemoteUrl } from '../../src/commands/git-remote.ts';

interface Answer {
  readonly stdout: string;
  readonly calls: unknown[];
  /** What the other side got */
  readonly received: string;
}

/** Speaks with the helper as git does; the engine's side says hello and reads to the end. */
async function speak(url: string, said: readonly string[], engine?: Error): Promise<Answer> {
  const answer = { stdout: '', calls: [] as unknown[], received: '' };
  const cli = {
    standardInput: () => ({
      stream: Readable.from(said.map((text) => Buffer.from(text))),
      isTerminal: false,
    }),
    write: async (bytes: Buffer | string) => void (answer.stdout += bytes.toString()),
    exitWith: () => undefined,
    transfer: async (
      method: { name: string },
      params: unknown,
      { input, output }: { input: Readable; output: (piece: Buffer) => Promise<void> },
    ) => {
      answer.calls.push([method.name, params]);
      if (engine) throw engine;
      await output(Buffer.from('refs'));
      for await (const chunk of input) answer.received += String(chunk);
      await output(Buffer.from('pack'));
      return { code: 0 };
    },
  } as unknown as Cli;
  await gitRemote(cli, ['origin', url]);
  return answer;
}

test('git is connected to the VM, and what it says after that goes there, however its words are cut', async () => {
  const said = [
    'capab',
    'ilities\noption verbosity 0\nopt',
    'ion depth 1\nconnect git-upload-pack\nwa',
    'nt',
  ];
  const { stdout, calls, received } = await speak('web/root/project/', said);
  expect(stdout).toBe('connect\noption\n\nok\nunsupported\n\nrefspack');
  expect(calls).toEqual([['workspace.upload-pack', { vm: 'web', place: '/root/project' }]]);
  expect(received).toBe('want');
});

test('when the VM cannot be reached git is not told that it is connected', async () => {
  await expect(speak('web', ['connect git-upload-pack\n'], new Error('not running'))).rejects.toThrow(
    'not running',
  );
});

test('a push is refused with what to do instead', async () => {
  await expect(speak('web', ['capabilities\n', 'connect git-receive-pack\n'])).rejects.toMatchObject({
    message: 'git cannot push into VM "web"',
    hint: 'Send your tree with: banger workspace prepare . --vm web',
  });
});

test('after a refusal nothing is read from git any more, which waits for that', async () => {
  const stream = new PassThrough();
  stream.write('connect git-receive-pack\n');
  const cli = { standardInput: () => ({ stream, isTerminal: false }) } as unknown as Cli;
  await expect(gitRemote(cli, ['origin', 'web'])).rejects.toThrow('cannot push');
  expect(stream.destroyed).toBe(true);
});

test('git that hangs up, or has nothing more to ask, is done with', async () => {
  expect((await speak('web', [])).stdout).toBe('');
  expect((await speak('web', ['capabilities\n', '\n'])).calls).toEqual([]);
});

test.each([
  ['web', 'web', undefined],
  ['banger::web', 'web', undefined],
  ['banger://web', 'web', undefined],
  ['banger://web/', 'web', undefined],
  ['web/project', 'web', '/project'],
  ['banger://web/root/project', 'web', '/root/project'],
])('%s names the VM and the place in it', (url, vm, place) => {
  expect(parseRemoteUrl(url)).toEqual({ vm, place });
});

test('a URL without a VM is a usage error', () => {
  expect(() => parseRemoteUrl('banger:///root')).toThrow('names no VM');
});
