import { expect, test } from 'vitest';
import { startChildStream } from '../../src/host/child-stream.ts';
import { exec } from '../../src/host/exec.ts';
import { isOutOfMemory } from '../../src/host/memory-limit.ts';

/** Takes 200 MB. */
const greedy = ['perl', '-e', 'my $text = "a" x 200_000_000; print length $text'] as const;
const maxMemoryBytes = 64 * 1024 * 1024;

test('a program that takes more memory than it may is refused it, and named in the error as any other', async () => {
  expect((await exec(greedy)).stdout.toString()).toBe('200000000');
  const refused = await exec(greedy, { maxMemoryBytes }).catch((error: unknown) => error as Error);
  expect(refused).toMatchObject({ message: expect.stringMatching(/^"perl -e .*out of memory/is) as string });
  expect(isOutOfMemory((refused as Error).message)).toBe(true);
  const signal = new AbortController().signal;
  const child = startChildStream(greedy, { cwd: '/', env: process.env, signal, maxMemoryBytes });
  child.stdio.resume();
  expect(await child.exit).not.toEqual({ code: 0 });
  expect((await exec(['echo', '$0 "a b"'], { maxMemoryBytes })).stdout.toString()).toBe('$0 "a b"\n');
});
