import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, test } from 'vitest';
import { openBanger, until } from '../support/banger.ts';

const banger = openBanger();
const socket = join(banger.home, 'tmux');

beforeAll(async () => {
  await banger.ok(['vm', 'create', '--name', 'web']);
});
afterAll(async () => {
  tmux('kill-server');
  await banger[Symbol.asyncDispose]();
});

test('vm ssh is a terminal: prompt, size, resize, Ctrl-C, and the exit code of the shell', async () => {
  const shell = [...banger.argv, 'vm', 'ssh', 'web'].join(' ');
  tmux(
    '-f',
    '/dev/null',
    'new-session',
    '-d',
    '-x',
    '100',
    '-y',
    '30',
    `TERM=xterm ${shell}; echo "exit code $?"; sleep 600`,
  );
  await onScreen(/web.*#$/m);

  type('stty size');
  await onScreen(/^30 100$/m);
  tmux('resize-window', '-x', '90', '-y', '25');
  type('clear; sleep 1; stty size');
  await onScreen(/^25 90$/m);

  // Ctrl-C is for the program once it has the terminal: its own word says when, the shell's echo does not.
  type("sh -c 'echo a''sleep; exec sleep 600'");
  await onScreen(/^asleep$/m);
  tmux('send-keys', 'C-c');
  // The shell asks a terminal where its cursor is, and may get the answer when it listens no more: what follows is that.
  type('echo "still $((6 * 7))"');
  await onScreen(/^still 42/m);

  type('exit 9');
  await onScreen(/^exit code 9$/m);
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
  tmux('new-window', `TERM=xterm ${words.join(' ')}; echo "exit code $?"; sleep 600`);
  await onScreen(/^exit code 3$/m);
});

function type(line: string): void {
  tmux('send-keys', line, 'Enter');
}

async function onScreen(pattern: RegExp): Promise<void> {
  let screen = '';
  await until(`${pattern} is on the screen`, () => {
    screen = tmux('capture-pane', '-p').trimEnd();
    return pattern.test(screen);
  }).catch((error: unknown) => {
    throw new Error(`${String(error)}\n${screen}`);
  });
}

function tmux(...args: string[]): string {
  const env = { ...process.env, ...banger.env } as NodeJS.ProcessEnv;
  return execFileSync('tmux', ['-S', socket, ...args], { env }).toString();
}
