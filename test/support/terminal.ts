import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { until, type Banger } from './banger.ts';

/** A terminal of tmux in which somebody types. */
export interface Terminal {
  /** Runs a line of a shell in a window of its own, and keeps what it printed on the screen */
  open(line: string): void;
  /** Types a line and presses Enter */
  type(line: string): void;
  /** Presses a key, such as `C-c` */
  press(key: string): void;
  resize(columns: number, rows: number): void;
  /** Waits until this is on the screen, and returns all that is */
  onScreen(pattern: RegExp): Promise<string>;
  close(): void;
}

/** What programs there run as `banger` is the one under test. It has 100 columns and 30 rows at first. */
export function openTerminal(banger: Banger): Terminal {
  const socket = join(banger.home, 'tmux');
  const tmux = (...args: string[]): string => {
    const env = { ...process.env, ...banger.env } as NodeJS.ProcessEnv;
    return execFileSync('tmux', ['-S', socket, ...args], { env }).toString();
  };
  let isOpen = false;
  return {
    open(line) {
      const size = ['-f', '/dev/null', 'new-session', '-d', '-x', '100', '-y', '30'];
      tmux(...(isOpen ? ['new-window'] : size), `TERM=xterm; export TERM; ${line}; sleep 600`);
      isOpen = true;
    },
    type: (line) => void tmux('send-keys', line, 'Enter'),
    press: (key) => void tmux('send-keys', key),
    resize: (columns, rows) => void tmux('resize-window', '-x', String(columns), '-y', String(rows)),
    async onScreen(pattern) {
      let screen = '';
      await until(`${pattern} is on the screen`, () => {
        screen = tmux('capture-pane', '-p').trimEnd();
        return pattern.test(screen);
      }).catch((error: unknown) => {
        throw new Error(`${String(error)}\n${screen}`);
      });
      return screen;
    },
    close: () => void (isOpen && tmux('kill-server')),
  };
}
