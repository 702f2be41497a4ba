import type { Method, ParamsOf, ParsedParams, ResultOf, StreamMethod } from '../engine/rpc/method.ts';
import type { GuestStreamResult } from '../engine/rpc/client.ts';

/** What a command works with: the engine on one side, the user's terminal on the other. */
export interface Cli {
  /** True under `--json`: results are JSON on stdout, progress is JSON lines on stderr */
  readonly json: boolean;
  /** Calls the engine, starting it when needed, and shows progress until the answer is there */
  call<M extends Method>(method: M, params: ParamsOf<M>): Promise<ResultOf<M>>;
  /** Like `call`, but never starts an engine: undefined when none is running */
  callIfRunning<M extends Method>(method: M, params: ParamsOf<M>): Promise<ResultOf<M> | undefined>;
  /** Connects this process's stdin, stdout and stderr to a program in a guest, and returns how it ended */
  attach<M extends StreamMethod>(method: M, params: ParamsOf<M>): Promise<GuestStreamResult>;
  /** Prints a result: as JSON under `--json`, else the text (nothing when empty). A final newline is added when missing. */
  print<T>(value: T, text: (value: T) => string): void;
  /** Writes bytes to stdout exactly as they are, whatever the mode */
  write(bytes: Buffer | string): Promise<void>;
  /** Talk: one line on stderr, not shown under `--json` */
  say(line: string): void;
  /** Runs the same action for several names; reports each failure, goes on with the others, and fails at the end if any did */
  forEach(names: readonly string[], action: (name: string) => Promise<void>): Promise<void>;
  /** Sets the exit code of a command that otherwise went well */
  exitWith(code: number): void;
  /** Working directory of the user */
  readonly cwd: string;
  readonly terminal: { readonly stdin: boolean; readonly stdout: boolean; readonly stderr: boolean };
}

export type { ParsedParams };
