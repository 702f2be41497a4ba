import { createInterface } from 'node:readline/promises';
import type { CliInput } from './cli-runtime.ts';

/** Asks whoever is at the terminal for a y or an n. What is neither, and an end of what they type, is an n. */
export async function askQuestion(
  { streams: { stdin, stderr }, onInterrupt }: Pick<CliInput, 'streams' | 'onInterrupt'>,
  question: string,
): Promise<boolean> {
  // Not as a terminal, so that Ctrl-C ends the program as always.
  const lines = createInterface({ input: stdin, output: stderr, terminal: false });
  const closed = new Promise<undefined>((resolve) => lines.once('close', () => resolve(undefined)));
  // What comes next is not to stand behind the question.
  const endLine = (): boolean => {
    stderr.write('\n');
    return false;
  };
  const restore = onInterrupt(endLine);
  try {
    const answer = await Promise.race([lines.question(`${question} [y/N] `), closed]);
    return answer === undefined ? endLine() : /^\s*y(es)?\s*$/i.test(answer);
  } finally {
    restore();
    lines.close();
    stdin.unref();
  }
}
