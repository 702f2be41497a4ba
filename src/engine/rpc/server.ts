import { createServer, type Server, type Socket } from 'node:net';
import type { OperationRegistry, TimedOperation } from '../operations.ts';
import { Connection } from './connection.ts';
import type { EngineStream } from './frame-stream.ts';
import type { HelloResult } from './messages.ts';
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
  /** Answers hello; decides whether the engine leaves for a client of another build, or throws why it does not */
  readonly hello: (build: string, schema: number | undefined) => HelloResult;
  readonly onError: (error: unknown, operation: string) => void;
  readonly onConnections: (count: number) => void;
  /** How long a client may take to greet (default: 10 s) */
  readonly greetTimeoutMs?: number;
}

export interface RpcServer {
  /** Makes the socket again after somebody has removed it; connections stay */
  listenAgain(): Promise<void>;
  /** Takes no more connections and begins no more requests; what has begun goes on */
  close(): void;
  /** Ends the connections that are left once their answers are out, for an engine that is about to end */
  hangUp(): Promise<void>;
}

/** Clients at a time. Those beyond are hung up on, and ask again. */
const maxConnections = 1000;
/** How long a client that does not read may keep an engine from ending: one on a busy host reads late. */
export const hangUpTimeoutMs = 5_000;

/** Listens on a Unix socket (mode 0600 from birth) and answers until closed. */
export async function serveRpc(options: RpcServerOptions): Promise<RpcServer> {
  const routes = new Map(options.routes.map((entry) => [entry.method.name, entry]));
  const connections = new Map<Socket, Connection>();
  const onSocket = (socket: Socket): void => {
    const connection = new Connection(socket, routes, options);
    connections.set(socket, connection);
    options.onConnections(connections.size);
    socket.once('close', () => {
      connections.delete(socket);
      options.onConnections(connections.size);
    });
    connection.start();
  };
  let server = await listenAt(options, onSocket);
  return {
    listenAgain: async () => {
      // Before the next one: it removes whatever is at its path.
      server.close();
      server = await listenAt(options, onSocket);
    },
    close: () => {
      server.close();
      for (const connection of connections.values()) connection.leave();
    },
    hangUp: async () => {
      await Promise.all([...connections.keys()].map(hangUpOn));
    },
  };
}

async function listenAt(
  { socketPath, onError }: RpcServerOptions,
  onSocket: (socket: Socket) => void,
): Promise<Server> {
  // Half-open: a client that cancels closes its half, and still gets the answer, once everything is undone.
  const server = createServer({ allowHalfOpen: true }, onSocket);
  server.maxConnections = maxConnections;
  const previousMask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(socketPath, resolve);
    });
  } finally {
    process.umask(previousMask);
  }
  // Such as a connection that found no descriptor left: the next one may.
  server.on('error', (error) => onError(error, 'listen'));
  return server;
}

/** What was written before goes out first. */
async function hangUpOn(socket: Socket): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, hangUpTimeoutMs);
  socket.once('close', resolve);
  socket.end(resolve);
  await promise;
  clearTimeout(timer);
  socket.destroy();
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
