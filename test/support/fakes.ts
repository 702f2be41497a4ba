import type { Exec, ExecOutput } from '../../src/host/exec.ts';
import type { Log } from '../../src/engine/log.ts';
import type { TimedOperation } from '../../src/engine/operations.ts';

/** An `Exec` that answers by command line and remembers what it was asked. Unlisted commands succeed silently. */
export function fakeExec(answers: Readonly<Record<string, Partial<ExecOutput> | Error>> = {}): {
  exec: Exec;
  commands: string[];
} {
  const commands: string[] = [];
  const exec: Exec = async (argv) => {
    const line = argv.join(' ');
    commands.push(line);
    const answer = answers[line];
    if (answer instanceof Error) throw answer;
    return { exitCode: 0, stdout: Buffer.alloc(0), stderr: '', ...answer };
  };
  return { exec, commands };
}

export function fakeLog(): { log: Log; lines: string[] } {
  const lines: string[] = [];
  return { log: (_, message) => void lines.push(message), lines };
}

/** An operation that remembers the stages it was told, and can be cancelled. */
export function fakeOperation(): { operation: TimedOperation; stages: string[]; cancel: () => void } {
  const controller = new AbortController();
  const stages: string[] = [];
  return {
    operation: {
      id: 'op-test',
      kind: 'test',
      signal: controller.signal,
      enter: (stage) => void stages.push(stage),
      progress: () => undefined,
      timings: () => stages.map((stage) => ({ stage, seconds: 0 })),
    },
    stages,
    cancel: () => controller.abort(),
  };
}
