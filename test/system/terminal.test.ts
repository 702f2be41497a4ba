import { afterAll, beforeAll, test } from 'vitest';
import { openBanger } from '../support/banger.ts';
import { openTerminal } from '../support/terminal.ts';

const banger = openBanger();
const terminal = openTerminal(banger);

beforeAll(async () => {
  await banger.ok(['vm', 'create', '--name', 'web']);
});
afterAll(async () => {
  terminal.close();
  await banger[Symbol.asyncDispose]();
});

test('vm ssh is a terminal: prompt, size, resize, Ctrl-C, and the exit code of the shell', async () => {
  const shell = [...banger.argv, 'vm', 'ssh', 'web'].join(' ');
  terminal.open(`${shell}; echo "exit code $?"`);
  await terminal.onScreen(/web.*#$/m);

  terminal.type('stty size');
  await terminal.onScreen(/^30 100$/m);
  terminal.resize(90, 25);
  terminal.type('clear; sleep 1; stty size');
  await terminal.onScreen(/^25 90$/m);

  // Ctrl-C is for the program once it has the terminal: its own word says when, the shell's echo does not.
  terminal.type("sh -c 'echo a''sleep; exec sleep 600'");
  await terminal.onScreen(/^asleep$/m);
  terminal.press('C-c');
  // The shell asks a terminal where its cursor is, and may get the answer when it listens no more: what follows is that.
  terminal.type('echo "still $((6 * 7))"');
  await terminal.onScreen(/^still 42/m);

  terminal.type('exit 9');
  await terminal.onScreen(/^exit code 9$/m);
});

test('vm exec from a terminal gives the program one, and its exit code comes back', async () => {
  const words = [
    ...banger.argv,
    'vm',
    'exec',
    'web',
    '--',
    'sh',
    '-c',
    `'test -t 0 && test -t 1; exit $((3 + $?))'`,
  ];
  terminal.open(`${words.join(' ')}; echo "exit code $?"`);
  await terminal.onScreen(/^exit code 3$/m);
});
