import { expect, test } from 'vitest';
import type { Cli } from '../../src/commands/cli.ts';
import { runProgram } from '../support/run-program.ts';

/** A command line against nobody: whatever gets as far as the engine is told. */
const nobody: Partial<Cli> = {
  cwd: '/home/me',
  call: () => Promise.reject(new Error('the engine is asked')),
  attach: () => Promise.reject(new Error('the engine is asked')),
  programTerminal: () => undefined,
  forEach: async (names, action) => {
    for (const name of names) await action(name);
  },
};

test.each([
  [['image', 'pull', ''], 'The argument "image" is empty'],
  [['image', 'delete', 'app', ''], 'The argument "image" is empty'],
  [['image', 'import', ''], 'The argument "path" is empty'],
  [['image', 'import', 'app.tar', '--name', ''], 'The option "--name" is empty'],
  [['image', 'tag', 'app', ''], 'The argument "name" is empty'],
  [['kernel', 'pull', ''], 'The argument "source" is empty'],
  [['vm', 'create', '--image', ''], 'The option "--image" is empty'],
  [['vm', 'create', '--kernel='], 'The option "--kernel" is empty'],
  [['vm', 'show', ''], 'The argument "vm" is empty'],
  [['vm', 'exec', '', '--', 'ls'], 'The argument "vm" is empty'],
])('%j: %s', async (words, message) => {
  await expect(runProgram(nobody as Cli, words)).rejects.toMatchObject({
    name: 'BangerError',
    code: 'invalid_argument',
    message,
    hint: `See what it takes with: banger ${words[0]} ${words[1]} --help`,
  });
});

test('words for a program in a guest may be empty', async () => {
  await expect(runProgram(nobody as Cli, ['vm', 'exec', 'web', '--', 'printf', ''])).rejects.toThrow(
    'the engine is asked',
  );
});
