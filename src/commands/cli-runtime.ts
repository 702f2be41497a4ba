import type { Readable } from 'node:stream';
import type { ClientStream, RpcClient } from '../engine/rpc/client.ts';
import type { ConnectOptions } from '../engine/rpc/connect.ts';
import type { ProgressEvent } from '../engine/rpc/messages.ts';
import { noteStage } from '../engine/rpc/note-stage.ts';
import type { Method, ParamsOf, ResultOf, StreamMethod } from '../engine/rpc/method.ts';
import { printable, printableJson, printableLines } from '../printable.ts';
import { errorLines } from './error-lines.ts';
import { attachStream, type GuestExit, type LocalStreams, type ProgramTerminal } from './attach.ts';
import type { Cli, ListOptions } from './cli.ts';
import { askEngine, dialIfRunning, dialOrStart, type Dial } from './dial-engine.ts';
import type { TransferEnds } from './transfer.ts';
import { chooseProgress, type ProgressView } from './progress.ts';

export interface CliInput {
  readonly connect: ConnectOptions;
  readonly streams: LocalStreams;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** Registers what Ctrl-C does; false from all who are registered ends the program. Returns how to stop that. */
  readonly onInterrupt: (callback: () => boolean) => () => void;
}

/** One run of the program: what its commands use, and what is left to do at its end. */
export class CliRuntime implements Cli {
  json = false;
  exitCode = 0;
  readonly cwd: string;
  #input: CliInput;
  #view: ProgressView | undefined;

  constructor(input: CliInput) {
    this.#input = input;
    this.cwd = input.cwd;
  }

  async call<M extends Method>(method: M, params: ParamsOf<M>, subject?: string): Promise<ResultOf<M>> {
    return (await this.#request(dialOrStart(this.#input.connect), method, params, { subject }))!;
  }

  async detach<M extends Method>(method: M, params: ParamsOf<M>): Promise<string> {
    const operation = await askEngine(dialOrStart(this.#input.connect), {}, async (client) => {
      const id = await client.detach(method, params);
      client.close();
      return id;
    });
    return operation!;
  }

  async follow<M extends StreamMethod>(
    method: M,
    params: ParamsOf<M>,
    onData: (bytes: Buffer) => Promise<void>,
  ): Promise<void> {
    const { client, stream } = await this.#open(method, params);
    let isEnough = false;
    const restore = this.#input.onInterrupt(() => {
      if (isEnough) return false;
      isEnough = true;
      client.cancel();
      return true;
    });
    let written = Promise.resolve();
    stream.onFrame((frame) => {
      if (frame.type !== 'stdout') return;
      stream.pause();
      written = written.then(() => onData(frame.payload)).finally(() => stream.resume());
      written.catch(() => client.close());
    });
    try {
      await stream.ended;
      await written;
    } catch (error) {
      await written;
      if (!isEnough) throw error;
      this.exitWith(130);
    } finally {
      restore();
      client.close();
    }
  }

  async callIfRunning<M extends Method>(method: M, params: ParamsOf<M>): Promise<ResultOf<M> | undefined> {
    return this.#request(dialIfRunning(this.#input.connect), method, params, {});
  }

  async callLast<M extends Method>(method: M, params: ParamsOf<M>): Promise<ResultOf<M> | undefined> {
    const dial = dialIfRunning(this.#input.connect);
    return this.#request(dial, method, params, { afterwards: (client) => client.closed });
  }

  async attach<M extends StreamMethod>(method: M, params: ParamsOf<M>): Promise<GuestExit> {
    let letGo = (): void => undefined;
    const onProgress = (event: ProgressEvent): void => {
      // Once the program runs, the screen is its own; what comes after it is ours again.
      if (event.stage === 'Running') return this.showProgress(undefined);
      letGo();
      this.showProgress(event);
    };
    const { client, stream } = await this.#open(method, params, onProgress);
    const attached = attachStream(stream, this.#input.streams, this.programTerminal() !== undefined);
    letGo = () => attached.letGo();
    let interrupts = 0;
    const restore = this.#input.onInterrupt(() => {
      interrupts++;
      if (interrupts === 1 && attached.isRunning()) stream.send('signal', 'INT');
      else client.cancel();
      return interrupts <= 2;
    });
    try {
      return await attached.ended;
    } finally {
      restore();
      this.showProgress(undefined);
    }
  }

  async transfer<M extends StreamMethod>(
    method: M,
    params: ParamsOf<M>,
    ends: TransferEnds,
  ): Promise<GuestExit> {
    const { carry } = await import('./transfer.ts');
    const { client, stream } = await this.#open(method, params, (event) => this.showProgress(event));
    const restore = this.#cancelOnInterrupt(client, () => ends.onAbandoned?.());
    try {
      return await carry(stream, ends);
    } finally {
      restore();
      client.close();
      this.showProgress(undefined);
    }
  }

  standardInput(): { readonly stream: Readable; readonly isTerminal: boolean } {
    const { stdin } = this.#input.streams;
    return { stream: stdin, isTerminal: stdin.isTTY };
  }

  get printsToTerminal(): boolean {
    return this.#input.streams.stdout.isTTY;
  }

  get columns(): number | undefined {
    const { stdout } = this.#input.streams;
    return stdout.isTTY ? stdout.columns : undefined;
  }

  programTerminal(): ProgramTerminal | undefined {
    const { stdin, stdout } = this.#input.streams;
    if (!stdin.isTTY || !stdout.isTTY) return undefined;
    return {
      term: this.#input.env['TERM'] ?? 'xterm',
      columns: stdout.columns || 80,
      rows: stdout.rows || 24,
    };
  }

  print<T>(value: T, text: (value: T) => string): void {
    const output = this.json ? printableJson(value, 2) : printableLines(text(value));
    if (output === '') return;
    this.#input.streams.stdout.write(output.endsWith('\n') ? output : `${output}\n`);
  }

  async write(bytes: Buffer | string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#input.streams.stdout.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
  }

  say(line: string): void {
    if (this.json) return;
    this.#view?.clear();
    this.#input.streams.stderr.write(`${printableLines(line)}\n`);
  }

  get canAsk(): boolean {
    const { stdin, stderr } = this.#input.streams;
    return !this.json && stdin.isTTY && stderr.isTTY;
  }

  async ask(question: string): Promise<boolean | undefined> {
    if (!this.canAsk) return undefined;
    this.#view?.clear();
    const { askQuestion } = await import('./ask-question.ts');
    return askQuestion(this.#input, printableLines(question));
  }

  showProgress(event: ProgressEvent | undefined, subject?: string): void {
    const ofSubject = subject === undefined ? '' : `${subject}: `;
    if (event?.stage === noteStage && !this.json) this.say(printable(`${ofSubject}${event.detail ?? ''}`));
    else if (!event) this.#view?.clear();
    else if (this.json) this.#progressView().show({ ...event, subject });
    else this.#progressView().show({ ...event, stage: `${ofSubject}${event.stage}` });
  }

  async forEach<T>(
    names: readonly string[],
    action: (name: string) => Promise<T>,
    text: (value: T) => string,
    { alwaysList = false, allText }: ListOptions<T> = {},
  ): Promise<void> {
    const unique = [...new Set(names)];
    const settled = await Promise.allSettled(unique.map(action));
    const done = settled.filter((one) => one.status === 'fulfilled').map((one) => one.value);
    const failures = settled.filter((one) => one.status === 'rejected').map((one) => one.reason as unknown);
    this.#view?.clear();
    const isOne = unique.length === 1 && !alwaysList;
    if (this.json && done.length > 0) this.print(isOne ? done[0] : done, () => '');
    if (!this.json && allText) this.print(done, allText);
    else if (!this.json) for (const value of done) this.print(value, text);
    if (failures.length === 0) return;
    for (const failure of failures.slice(0, -1)) this.reportError(failure);
    throw failures.at(-1);
  }

  keepFromEngine(name: string): void {
    const { connect } = this.#input;
    const engineEnv = { ...connect.engineEnv, [name]: undefined };
    this.#input = { ...this.#input, connect: { ...connect, engineEnv } };
  }

  exitWith(code: number): void {
    this.exitCode = code;
  }

  /** Prints an error the way all errors look: what and why on one line, what to do next on another. */
  reportError(error: unknown): void {
    this.#view?.clear();
    const { stderr } = this.#input.streams;
    stderr.write(errorLines(error, this.json));
  }

  async #open<M extends StreamMethod>(
    method: M,
    params: ParamsOf<M>,
    onProgress: (event: ProgressEvent) => void = () => undefined,
  ): Promise<{ readonly client: RpcClient; readonly stream: ClientStream }> {
    const opened = await askEngine(dialOrStart(this.#input.connect), method, async (client) => {
      client.onProgress(onProgress);
      return { client, stream: await client.stream(method, params) };
    });
    return opened!;
  }

  /** Undefined when there is no engine. */
  async #request<M extends Method>(
    dial: Dial,
    method: M,
    params: ParamsOf<M>,
    { subject, afterwards }: { subject?: string; afterwards?: (client: RpcClient) => Promise<void> },
  ): Promise<ResultOf<M> | undefined> {
    return askEngine(dial, method, async (client) => {
      client.onProgress((event) => this.showProgress(event, subject));
      const restore = this.#cancelOnInterrupt(client, () => undefined);
      try {
        const answer = await client.call(method, params);
        await afterwards?.(client);
        return answer;
      } finally {
        restore();
        client.close();
        this.showProgress(undefined);
      }
    });
  }

  /** The first Ctrl-C cancels what the engine does, the second one leaves. Returns how to stop that. */
  #cancelOnInterrupt(client: RpcClient, leave: () => void): () => void {
    let isCancelling = false;
    return this.#input.onInterrupt(() => {
      if (isCancelling) {
        leave();
        return false;
      }
      isCancelling = true;
      this.say('Cancelling (Ctrl-C again to leave at once)');
      client.cancel();
      return true;
    });
  }

  #progressView(): ProgressView {
    this.#view ??= chooseProgress(this.#input.streams.stderr, { json: this.json, env: this.#input.env });
    return this.#view;
  }
}
