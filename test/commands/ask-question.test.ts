import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import type { LocalStreams } from '../../src/commands/attach.ts';
import { CliRuntime, type CliInput } from '../../src/commands/cli-runtime.ts';

/** Somebody at a terminal who is asked whether to agree. */
function askSomebody() {
  const terminal = () => Object.assign(new PassThrough(), { isTTY: true, unref: () => undefined });
  const [stdin, stderr] = [terminal(), terminal()];
  const interrupts = new Set<() => boolean>();
  const cli = new CliRuntime({
    connect: {} as CliInput['connect'],
    streams: { stdin, stdout: stderr, stderr } as unknown as LocalStreams,
    env: { TERM: 'dumb' },
    cwd: '/',
    onInterrupt: (callback) => {
      interrupts.add(callback);
      return () => interrupts.delete(callback);
    },
  });
  return { answer: cli.ask('Agree?'), stdin, said: () => String(stderr.read() ?? ''), interrupts };
}

test.each([
  ['y\n', true],
  ['YES \n', true],
  ['n\n', false],
  ['\n', false],
  ['yesterday\n', false],
])('the answer %j is taken as it is meant: %s', async (typed, meant) => {
  const { answer, stdin, said, interrupts } = askSomebody();
  stdin.write(typed);
  expect(await answer).toBe(meant);
  // The terminal has shown the end of the line that was typed.
  expect(said()).toBe('Agree? [y/N] ');
  expect(interrupts.size).toBe(0);
});

test('whoever ends their input says no, and what comes next begins a line', async () => {
  const { answer, stdin, said } = askSomebody();
  stdin.end();
  expect(await answer).toBe(false);
  expect(said()).toBe('Agree? [y/N] \n');
});

test('after Ctrl-C at a question the program ends, and what comes next begins a line', async () => {
  const { answer, stdin, said, interrupts } = askSomebody();
  await expect.poll(() => interrupts.size).toBe(1);
  expect([...interrupts].map((interrupt) => interrupt())).toEqual([false]);
  expect(said()).toBe('Agree? [y/N] \n');
  stdin.end();
  await answer;
});
