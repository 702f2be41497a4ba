import { createServer, type Socket } from 'node:net';
import { BangerError } from '../../errors.ts';
import type { OperationRegistry, TimedOperation } from '../operations.ts';
import { FrameStream, type EngineStream } from './frame-stream.ts';
import { encodeLine, LineReader } from './lines.ts';
import { clientMessage, helloParams, protocolVersion, toWireError, type HelloResult } from './messages.ts';
import type { Method, ParsedParams, ResultOf, StreamMethod } from './method.ts';

/** One method and the code that answers it. */
export interface Route {
  readonly method: Method | StreamMethod;
  readonly handle: (params: unknown, operation: TimedOperation, stream: EngineStream) => Promise<unknown>;
  /** What the operation is about, for lists */
  readonly subject: (params: unknown) => string | undefined;
}

/** Binds a method to its handler; a handler that drifts from the contract does not compile. */
export function route<M extends Method>(
  method: M,
  handle: (params: ParsedParams<M>, operation: TimedOperation) => Promise<ResultOf<M>> | ResultOf<M>,
): Route {
  return {
    method,
    handle: async (params, operation) => handle(params as ParsedParams<M>, operation),
    subject: subjectOf,
  };
}

/** Binds a stream method. The handler runs until the stream is over; what it returns goes out as the exit frame. */
export function streamRoute<M extends StreamMethod>(
  method: M,
  handle: (
    params: ParsedParams<M>,
    operation: TimedOperation,
    stream: EngineStream,
  ) => Promise<StreamExit | object>,
): Route {
  return {
    method,
    handle: (params, operation, stream) => handle(params as ParsedParams<M>, operation, stream),
    subject: subjectOf,
  };
}

/** Payload of the exit frame: how the guest's program ended. */
export interface StreamExit {
  readonly code?: number;
  readonly signal?: string;
}

export interface RpcServerOptions {
  readonly socketPath: string;
  readonly routes: readonly Route[];
  readonly operations: OperationRegistry;
  /** Answers hello; decides whether the engine leaves for a client of another build */
  readonly hello: (build: string) => HelloResult;
  readonly onError: (error: unknown, operation: string) => void;
  readonly onConnections: (count: number) => void;
}

export interface RpcServer {
  /** Takes no more connections; those there are go on */
  close(): void;
  /** Ends the connections that are left, for an engine that is about to end */
  hangUp(): void;
}

/** Listens on a Unix socket (mode 0600 from birth) and answers until closed. */
export async function serveRpc(options: RpcServerOptions): Promise<RpcServer> {
  const routes = new Map(options.routes.map((entry) => [entry.method.name, entry]));
  const sockets = new Set<Socket>();
  // Half-open: a client that cancels closes its half, and still gets the answer, once everything is undone.
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    options.onConnections(sockets.size);
    socket.once('close', () => {
      sockets.delete(socket);
      options.onConnections(sockets.size);
    });
    new Connection(socket, routes, options).start();
  });
  const previousMask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(options.socketPath, resolve);
    });
  } finally {
    process.umask(previousMask);
  }
  // Such as a connection that found no descriptor left: the next one may.
  server.on('error', (error) => options.onError(error, 'listen'));
  return {
    close: () => void server.close(),
    hangUp: () => {
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** One client: lines of JSON-RPC until a stream method turns it into frames. */
class Connection {
  readonly #socket: Socket;
  readonly #routes: ReadonlyMap<string, Route>;
  readonly #options: RpcServerOptions;
  readonly #lines = new LineReader();
  readonly #gone = new AbortController();
  #greeted = false;
  #answering = 0;
  #stream: FrameStream | undefined;

  constructor(socket: Socket, routes: ReadonlyMap<string, Route>, options: RpcServerOptions) {
    this.#socket = socket;
    this.#routes = routes;
    this.#options = options;
  }

  start(): void {
    this.#socket.on('data', (chunk) => this.#receive(chunk));
    // A client that vanished is told by 'close'; its broken pipe is nobody's error.
    this.#socket.on('error', () => undefined);
    this.#socket.on('end', () => {
      this.#gone.abort(new BangerError('cancelled', 'Cancelled'));
      if (this.#answering === 0) this.#socket.end();
    });
    this.#socket.on('close', () => this.#gone.abort(new BangerError('cancelled', 'The client is gone')));
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

    const entry = this.#routes.get(name);
    if (!entry) {
      const error = new BangerError('invalid_argument', `The engine does not know the method "${name}"`);
      this.#write({ jsonrpc: '2.0', id, error: toWireError(error, undefined) });
      return;
    }
    if ('stream' in entry.method) {
      this.#lines.stop();
      this.#stream = new FrameStream(this.#socket);
    }
    const isDetached = detach && !('stream' in entry.method);
    void (isDetached ? this.#detach(id, entry, params) : this.#answer(id, entry, params));
  }

  #greet(id: number, name: string, params: unknown): void {
    const hello = helloParams.safeParse(params);
    if (name !== 'hello' || !hello.success)
      throw new BangerError('invalid_argument', 'RPC client did not say hello');
    const result = this.#options.hello(hello.data.build);
    this.#write({ jsonrpc: '2.0', id, result });
    if (result.leaving || hello.data.protocol !== protocolVersion) {
      this.#socket.end();
      this.#lines.stop();
      return;
    }
    this.#greeted = true;
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
            if (stream) void stream.send('progress', JSON.stringify(progress));
            else this.#write({ jsonrpc: '2.0', method: 'progress', params: progress });
          },
        },
        (operation) => {
          operationId = operation.id;
          return entry.handle(params, operation, stream ?? unusedStream);
        },
      );
      if (stream) await stream.finish('exit', result ?? {});
      else if ('result' in entry.method)
        this.#write({ jsonrpc: '2.0', id, result: entry.method.result.parse(result) });
    } catch (error) {
      if (!(error instanceof BangerError)) this.#options.onError(error, operationId ?? entry.method.name);
      const wire = toWireError(error, operationId);
      if (stream) await stream.finish('failure', wire);
      else this.#write({ jsonrpc: '2.0', id, error: wire });
    } finally {
      this.#answering--;
      if (this.#gone.signal.aborted && this.#answering === 0) this.#socket.end();
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
      if (this.#gone.signal.aborted && this.#answering === 0) this.#socket.end();
    }
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

/** VM, image or path that the parameters name, whatever the method. */
function subjectOf(params: unknown): string | undefined {
  if (typeof params !== 'object' || params === null) return undefined;
  for (const key of ['vm', 'name', 'reference', 'path']) {
    const value = (params as Record<string, unknown>)[key];
    if (typeof value === 'string') return value;
  }
  return undefined;
}

const unusedStream: EngineStream = {
  send: () => Promise.reject(new Error('This method has no stream')),
  onFrame: () => {
    throw new Error('This method has no stream');
  },
};
