import { expect, test } from 'vitest';
import { exec } from '../../src/host/exec.ts';
import { shellQuote } from '../../src/host/shell-quote.ts';

test('words survive a shell', async () => {
  const words = ['plain', "it's", '$HOME `id` "x"', 'new\nline', '', '*', '-n'];
  const { stdout } = await exec(['sh', '-c', `printf '%s\\0' ${shellQuote(words)}`]);
  expect(stdout.toString().split('\0').slice(0, -1)).toEqual(words);
});
