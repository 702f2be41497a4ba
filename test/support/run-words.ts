import type { Cli } from '../../src/commands/cli.ts';
import { runProgram } from './run-program.ts';

/** Runs `banger WORDS…` against an engine that gives one answer. */
export async function runWords(words: readonly string[], answer: unknown = {}) {
  const calls: [string, unknown][] = [];
  const talk: string[] = [];
  const printed: string[] = [];
  let exitCode = 0;
  const ask = async (method: { name: string }, params: unknown) => {
    if (method.name === 'vm.select') {
      const { references, labels } = params as {
        references: readonly string[];
        labels: readonly { key: string; value?: string }[];
      };
      // As if every VM were labelled with its name, and "all" were on two.
      const names = labels.flatMap(({ key, value }) => (key === 'all' ? ['one', 'two'] : [value ?? key]));
      return [...references, ...names].map((name) => ({ id: name, name }));
    }
    // Trees of these tests say nothing about their VM.
    if (method.name === 'template.read') return { hostPath: '/home/me/tree' };
    calls.push([method.name, params]);
    return answer;
  };
  const cli = {
    json: false,
    cwd: '/home/me/tree',
    call: ask,
    attach: ask,
    follow: ask,
    programTerminal: () => undefined,
    print: (value: unknown, text: (value: unknown) => string) => void printed.push(text(value)),
    say: (line: string) => void talk.push(line),
    forEach: async (names: readonly string[], action: (name: string) => Promise<unknown>) => {
      for (const name of names) await action(name);
    },
    exitWith: (code: number) => {
      exitCode = code;
    },
  } as unknown as Cli;
  await runProgram(cli, words);
  return { params: calls[0]?.[1] as Record<string, unknown>, calls, talk, printed, exitCode };
}
