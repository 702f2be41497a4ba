import type { Socket } from 'node:net';
import { BangerError } from '../../errors.ts';
import { FrameStream, type EngineStream } from './frame-stream.ts';
import { encodeLine, LineReader } from './lines.ts';
import {
  clientMessage,
  helloParams,
  maxLineBytes,
  protocolVersion,
  toWireError,
  type HelloResult,
} from './messages.ts';
import type { Route, RpcServerOptions } from './server.ts';

/** A greeting is a line of a hundred bytes; whoever has not greeted is not believed to need more. */
const maxHelloBytes = 64 * 1024;
const greetTimeoutMs = 10_000;
/** Requests of one client under way at a time. */
const maxAnswering = 64;

/** One client: lines of JSON-RPC until a stream method turns it into frames. */
export class Connection {
  readonly #socket: Socket;
  readonly #routes: ReadonlyMap<string, Route>;
  readonly #options: RpcServerOptions;
  readonly #lines = new LineReader(maxHelloBytes);
  readonly #gone = new AbortController();
  #greeted = false;
  #isLeaving = false;
  #answering = 0;
  #stream: FrameStream | undefined;

  constructor(socket: Socket, routes: ReadonlyMap<string, Route>, options: RpcServerOptions) {
    this.#socket = socket;
    this.#routes = routes;
    this.#options = options;
  }

  start(): void {
    this.#socket.on('data', (chunk) => this.#receive(chunk));
    const { greetTimeoutMs: timeoutMs = greetTimeoutMs } = this.#options;
    const late = setTimeout(() => {
      if (!this.#greeted) this.#socket.destroy();
    }, timeoutMs).unref();
    this.#socket.once('close', () => clearTimeout(late));
    // A client that vanished is told by 'close'; its broken pipe is nobody's error.
    this.#socket.on('error', () => undefined);
    this.#socket.on('end', () => {
      this.#gone.abort(new BangerError('cancelled', 'Cancelled'));
      this.#endWhenAnswered();
    });
    this.#socket.on('close', () => this.#gone.abort(new BangerError('cancelled', 'The client is gone')));
  }

  /** The engine is about to end: what comes from now on is not begun, and the client asks the next engine. */
  leave(): void {
    this.#isLeaving = true;
  }

  #receive(chunk: Buffer): void {
    try {
      if (this.#stream) return this.#stream.receive(chunk);
      const rest = this.#lines.push(chunk, (line) => this.#dispatch(line));
      if (rest && rest.length > 0) this.#upgraded().receive(rest);
    } catch (error) {
      this.#options.onError(error, 'connection');
      this.#socket.destroy();
    }
  }

  #upgraded(): FrameStream {
    if (!this.#stream) throw new BangerError('invalid_argument', 'RPC stream has not begun');
    return this.#stream;
  }

  #dispatch(line: unknown): void {
    const message = clientMessage.safeParse(line);
    if (!message.success) throw new BangerError('invalid_argument', 'RPC message is not a request');
    const { id, method: name, params, detach = false } = message.data;
    if (!this.#greeted) return this.#greet(id, name, params);
    if (this.#isLeaving) return this.#endWhenAnswered();

    const entry = this.#routes.get(name);
    if (!entry) {
      return this.#refuse(id, `The engine does not know the method "${name}"`);
    }
    if (this.#answering >= maxAnswering) {
      return this.#refuse(id, `More than ${maxAnswering} requests at a time on one connection`);
    }
    // From here on the client may not ask again by itself: something may have been done.
    this.#write({ jsonrpc: '2.0', method: 'accepted', params: { id } });
    if ('stream' in entry.method) {
      this.#lines.stop();
      this.#stream = new FrameStream(this.#socket);
    }
    const isDetached = detach && !('stream' in entry.method);
    void (isDetached ? this.#detach(id, entry, params) : this.#answer(id, entry, params));
  }

  #refuse(id: number, why: string): void {
    this.#write({
      jsonrpc: '2.0',
      id,
      error: toWireError(new BangerError('invalid_argument', why), undefined),
    });
  }

  #greet(id: number, name: string, params: unknown): void {
    const hello = helloParams.safeParse(params);
    if (name !== 'hello' || !hello.success)
      throw new BangerError('invalid_argument', 'RPC client did not say hello');
    let result: HelloResult;
    try {
      result = this.#options.hello(hello.data.build, hello.data.schema);
    } catch (error) {
      if (!(error instanceof BangerError)) throw error;
      this.#write({ jsonrpc: '2.0', id, error: toWireError(error, undefined) });
      this.#socket.end();
      this.#lines.stop();
      return;
    }
    this.#write({ jsonrpc: '2.0', id, result });
    if (result.leaving || hello.data.protocol !== protocolVersion) {
      this.#socket.end();
      this.#lines.stop();
      return;
    }
    this.#greeted = true;
    this.#lines.allow(maxLineBytes);
  }

  /** Runs one request to its answer. Never throws: what goes wrong becomes the answer. */
  async #answer(id: number, entry: Route, rawParams: unknown): Promise<void> {
    let operationId: string | undefined;
    const stream = this.#stream;
    this.#answering++;
    try {
      const params = parseParams(entry, rawParams);
      const result = await this.#options.operations.run(
        {
          kind: entry.method.name,
          subject: entry.subject(params),
          isQuestion: entry.method.isQuestion,
          signal: this.#gone.signal,
          onProgress: (progress) => {
            // A client that does not read gets its answer some day; what happened before that would only pile up.
            if (this.#socket.writableNeedDrain) return;
            if (stream) stream.tell('progress', JSON.stringify(progress));
            else this.#write({ jsonrpc: '2.0', method: 'progress', params: progress });
          },
        },
        (operation) => {
          operationId = operation.id;
          stream?.serve(operation.signal);
          return entry.handle(params, operation, stream ?? unusedStream);
        },
      );
      if (stream) stream.finish('exit', result ?? {});
      else if ('result' in entry.method)
        this.#write({ jsonrpc: '2.0', id, result: entry.method.result.parse(result) });
    } catch (error) {
      if (!(error instanceof BangerError)) this.#options.onError(error, operationId ?? entry.method.name);
      const wire = toWireError(error, operationId);
      if (stream) stream.finish('failure', wire);
      else this.#write({ jsonrpc: '2.0', id, error: wire });
    } finally {
      this.#answering--;
      this.#endWhenAnswered();
    }
  }

  /**
   * Answers with the operation's id when it has begun to do something, and with the error when it ends before that.
   * It goes on without whoever asked.
   */
  async #detach(id: number, entry: Route, rawParams: unknown): Promise<void> {
    let operationId: string | undefined;
    this.#answering++;
    try {
      const params = parseParams(entry, rawParams);
      const begun = Promise.withResolvers<void>();
      const work = this.#options.operations.run(
        {
          kind: entry.method.name,
          subject: entry.subject(params),
          signal: new AbortController().signal,
          onProgress: () => begun.resolve(),
        },
        (operation) => {
          operationId = operation.id;
          return entry.handle(params, operation, unusedStream);
        },
      );
      work.catch((error: unknown) => {
        if (!(error instanceof BangerError)) this.#options.onError(error, operationId ?? entry.method.name);
      });
      await Promise.race([work, begun.promise]);
      this.#write({ jsonrpc: '2.0', id, result: { operation: operationId } });
    } catch (error) {
      this.#write({ jsonrpc: '2.0', id, error: toWireError(error, operationId) });
    } finally {
      this.#answering--;
      this.#endWhenAnswered();
    }
  }

  /** Nobody asks on this connection any more: the client has closed its half, or the engine leaves. */
  #endWhenAnswered(): void {
    const isOver = this.#gone.signal.aborted || this.#isLeaving;
    if (isOver && this.#answering === 0) this.#socket.end();
  }

  #write(message: object): void {
    if (!this.#socket.writable) return;
    this.#socket.write(encodeLine(message));
  }
}

function parseParams(entry: Route, raw: unknown): unknown {
  const parsed = entry.method.params.safeParse(raw);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(
    (issue) => `${issue.path.join('.') || 'parameters'}: ${issue.message}`,
  );
  throw new BangerError('invalid_argument', `${entry.method.name}: ${problems.join('; ')}`);
}

const unusedStream: EngineStream = {
  send: () => Promise.reject(new Error('This method has no stream')),
  onFrame: () => {
    throw new Error('This method has no stream');
  },
};
