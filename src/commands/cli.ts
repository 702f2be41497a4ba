import type { Readable } from 'node:stream';
import type { GuestExit, ProgramTerminal } from './attach.ts';
import type { TransferEnds } from './transfer.ts';
import type { ProgressEvent } from '../engine/rpc/messages.ts';
import type { Method, ParamsOf, ResultOf, StreamMethod } from '../engine/rpc/method.ts';

export interface ListOptions<T> {
  /** A list under `--json`, even of one */
  readonly alwaysList?: boolean;
  /** All results as one text, instead of a text for each */
  readonly allText?: (values: readonly T[]) => string;
}

/** What a command works with: the engine on one side, the user's terminal on the other. */
export interface Cli {
  /** True under `--json`: results are JSON on stdout, progress is JSON lines on stderr */
  readonly json: boolean;
  /**
   * Calls the engine, starting it when needed, and shows progress until the answer is there; `subject` says whose it is
   * when several are waited for
   */
  call<M extends Method>(method: M, params: ParamsOf<M>, subject?: string): Promise<ResultOf<M>>;
  /** Starts something that goes on without us, and returns its operation's id once it has begun */
  detach<M extends Method>(method: M, params: ParamsOf<M>): Promise<string>;
  /** Hands on what a stream tells, piece by piece, until it ends or the user has had enough (exit code 130) */
  follow<M extends StreamMethod>(
    method: M,
    params: ParamsOf<M>,
    onData: (bytes: Buffer) => Promise<void>,
  ): Promise<void>;
  /** Like `call`, but never starts an engine: undefined when none is running */
  callIfRunning<M extends Method>(method: M, params: ParamsOf<M>): Promise<ResultOf<M> | undefined>;
  /** Asks a running engine for something that ends it, and returns when it has ended; undefined when none is running */
  callLast<M extends Method>(method: M, params: ParamsOf<M>): Promise<ResultOf<M> | undefined>;
  /** Connects stdin, stdout and stderr to a program in a guest until it ends; returns the engine's exit frame */
  attach<M extends StreamMethod>(method: M, params: ParamsOf<M>): Promise<GuestExit>;
  /** Carries data to or from the engine until it is done, showing progress; Ctrl-C cancels it */
  transfer<M extends StreamMethod>(method: M, params: ParamsOf<M>, ends: TransferEnds): Promise<GuestExit>;
  /** Standard input, for commands that read a file from it; `isTerminal` when nobody has redirected it */
  standardInput(): { readonly stream: Readable; readonly isTerminal: boolean };
  /** True when standard output is a terminal, which binary data would disturb */
  readonly printsToTerminal: boolean;
  /** Columns of the terminal that standard output is; undefined when it is none */
  readonly columns: number | undefined;
  /** The user's terminal as the guest's program shall see it; undefined when stdin or stdout is not one */
  programTerminal(): ProgramTerminal | undefined;
  /** Prints a result: as JSON under `--json`, else the text (nothing when empty). A final newline is added when missing. */
  print<T>(value: T, text: (value: T) => string): void;
  /** Writes bytes to stdout exactly as they are, whatever the mode */
  write(bytes: Buffer | string): Promise<void>;
  /** Talk: one line on stderr, not shown under `--json` */
  say(line: string): void;
  /** Somebody is there to be asked */
  readonly canAsk: boolean;
  /** Asks a question that is answered with y or n; undefined, and nothing asked, without a terminal or under `--json` */
  ask(question: string): Promise<boolean | undefined>;
  /** Shows work that is not an engine's, such as the doctor's */
  showProgress(event: ProgressEvent | undefined): void;
  /**
   * Does the same for several names: reports each failure, goes on with the others, and fails at the end if any
   * did. Results are printed in the order of the names; under `--json` as one array, or without it when there was
   * one name and no list is wanted for that.
   */
  forEach<T>(
    names: readonly string[],
    action: (name: string) => Promise<T>,
    text: (value: T) => string,
    options?: ListOptions<T>,
  ): Promise<void>;
  /** Sets the exit code of a command that otherwise went well */
  exitWith(code: number): void;
  /** Leaves a variable out of the environment of an engine that this command starts */
  keepFromEngine(name: string): void;
  /** Working directory of the user */
  readonly cwd: string;
}
