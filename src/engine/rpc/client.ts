import { connect, type Socket } from 'node:net';
import { BangerError } from '../../errors.ts';
import { encodeFrame, FrameReader, type Frame, type FrameType } from './frames.ts';
import { encodeLine, LineReader } from './lines.ts';
import {
  acceptedEvent,
  detachedResult,
  fromWireError,
  helloResult,
  progressEvent,
  protocolVersion,
  serverMessage,
  wireError,
  type HelloResult,
  type ProgressEvent,
} from './messages.ts';
import type { Method, ParamsOf, ResultOf, StreamMethod } from './method.ts';

/** Who is calling: compared with the engine's own build in hello. */
export interface BuildIdentity {
  readonly version: string;
  readonly buildId: string;
  /** Newest version of the database that it knows */
  readonly schema?: number;
}

/** The client's side of an upgraded connection. */
export interface ClientStream {
  /** Sends a frame, now or never: a connection that is gone takes none */
  send(type: FrameType, payload?: Buffer | string): void;
  onFrame(handler: (frame: Frame) => void): void;
  /** Stops and resumes reading, for a stdout that is slow */
  pause(): void;
  resume(): void;
  /** Settles with the engine's exit or failure frame */
  readonly ended: Promise<{ readonly code?: number; readonly signal?: string }>;
  close(): void;
}

/** The engine hung up before it answered: it may be leaving, or it died. */
export class EngineGone extends Error {
  override readonly name = 'EngineGone';
  /** False when it cannot have done anything for us: asking again is safe */
  readonly hadBegun: boolean;

  constructor(hadBegun: boolean) {
    super('The engine hung up');
    this.hadBegun = hadBegun;
  }
}

interface Call {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly onAccepted?: () => void;
  isAccepted: boolean;
}

/** One connection to the engine. Several calls may be under way at once; a stream takes it over. */
export class RpcClient {
  readonly #socket: Socket;
  readonly #lines = new LineReader();
  readonly #pending = new Map<number, Call>();
  #nextId = 1;
  #onProgress: ((event: ProgressEvent) => void) | undefined;
  #frames: ((chunk: Buffer) => void) | undefined;
  #closed = false;
  #isCancelled = false;
  /** Settles when the connection is closed, as it is when the engine ends */
  readonly closed: Promise<void>;
  readonly hello: Promise<HelloResult>;

  private constructor(socket: Socket, build: BuildIdentity) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('error', () => undefined);
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        this.#end();
        resolve();
      });
    });
    const { version, schema } = build;
    const params = { protocol: protocolVersion, build: build.buildId, version, schema };
    this.hello = this.#request('hello', params).then((answer) => helloResult.parse(answer));
    // Whoever awaits a call hears of it; a client that only greets may not.
    this.hello.catch(() => undefined);
  }

  /** Dials the engine's socket. Fails with ENOENT, ECONNREFUSED or ECONNRESET when nobody listens. */
  static async dial(socketPath: string, build: BuildIdentity): Promise<RpcClient> {
    const socket = connect(socketPath);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return new RpcClient(socket, build);
  }

  onProgress(listener: (event: ProgressEvent) => void): void {
    this.#onProgress = listener;
  }

  /** Calls a method. Sent at once after hello, without waiting for the answer to it. */
  async call<M extends Method>(method: M, params: ParamsOf<M>): Promise<ResultOf<M>> {
    const answer = await this.#request(method.name, params);
    return method.result.parse(answer) as ResultOf<M>;
  }

  /** Starts a method that goes on without us, and returns its operation's id. */
  async detach<M extends Method>(method: M, params: ParamsOf<M>): Promise<string> {
    const answer = await this.#request(method.name, params, { detach: true });
    return detachedResult.parse(answer).operation;
  }

  /** Calls a stream method: once the engine has accepted it, the connection carries frames. */
  async stream<M extends StreamMethod>(method: M, params: ParamsOf<M>): Promise<ClientStream> {
    return new Promise((resolve, reject) => {
      const onAccepted = (): void => {
        this.#lines.stop();
        resolve(this.#upgrade());
      };
      // Without the word that it is accepted, there is nothing but an error to come.
      this.#request(method.name, params, {}, onAccepted).catch(reject);
    });
  }

  /** Asks the engine to cancel what this connection waits for; the answer comes when everything is undone. */
  cancel(): void {
    this.#isCancelled = true;
    this.#socket.end();
  }

  close(): void {
    this.#socket.destroy();
  }

  #request(
    name: string,
    params: unknown,
    extra: { detach?: true } = {},
    onAccepted?: () => void,
  ): Promise<unknown> {
    if (this.#closed) return Promise.reject(new EngineGone(false));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject, onAccepted, isAccepted: false });
      this.#socket.write(encodeLine({ jsonrpc: '2.0', id, method: name, params, ...extra }));
    });
  }

  /** A line may have turned the connection into frames. */
  #receiveFrames(chunk: Buffer): void {
    this.#frames?.(chunk);
  }

  #receive(chunk: Buffer): void {
    try {
      if (this.#frames) return this.#frames(chunk);
      const rest = this.#lines.push(chunk, (line) => this.#dispatch(line));
      if (rest) this.#receiveFrames(rest);
    } catch (error) {
      this.#socket.destroy();
      for (const call of this.#pending.values()) call.reject(error as Error);
      this.#pending.clear();
    }
  }

  #dispatch(line: unknown): void {
    const message = serverMessage.parse(line);
    if (message.id === undefined) {
      if (message.method === 'progress') this.#onProgress?.(progressEvent.parse(message.params));
      if (message.method === 'accepted') this.#accept(acceptedEvent.parse(message.params).id);
      return;
    }
    const call = this.#pending.get(message.id);
    this.#pending.delete(message.id);
    if (message.error) call?.reject(fromWireError(message.error));
    else call?.resolve(message.result);
  }

  #accept(id: number): void {
    const call = this.#pending.get(id);
    if (!call) return;
    call.isAccepted = true;
    if (!call.onAccepted) return;
    this.#pending.delete(id);
    call.onAccepted();
  }

  #upgrade(): ClientStream {
    const reader = new FrameReader();
    const ended = Promise.withResolvers<{ code?: number; signal?: string }>();
    // Whoever called hears of it when it looks.
    ended.promise.catch(() => undefined);
    const waiting: Frame[] = [];
    let handler: ((frame: Frame) => void) | undefined;
    let isEnded = false;
    const deliver = (frame: Frame): void => {
      if (frame.type === 'exit') {
        isEnded = true;
        ended.resolve(JSON.parse(frame.payload.toString()) as { code?: number; signal?: string });
      } else if (frame.type === 'failure') {
        isEnded = true;
        ended.reject(fromWireError(wireError.parse(JSON.parse(frame.payload.toString()))));
      } else if (frame.type === 'progress') {
        this.#onProgress?.(progressEvent.parse(JSON.parse(frame.payload.toString())));
      } else if (handler) handler(frame);
      else waiting.push(frame);
    };
    this.#frames = (chunk) => reader.push(chunk).forEach(deliver);
    this.#socket.on('close', () => {
      if (!isEnded) ended.reject(lostEngine());
    });
    return {
      send: (type, payload) => {
        if (this.#socket.writable) this.#socket.write(encodeFrame(type, payload));
      },
      onFrame: (next) => {
        handler = next;
        waiting.splice(0).forEach(next);
      },
      pause: () => this.#socket.pause(),
      resume: () => this.#socket.resume(),
      ended: ended.promise,
      close: () => this.#socket.destroy(),
    };
  }

  #end(): void {
    this.#closed = true;
    for (const call of this.#pending.values()) {
      const isOurWish = this.#isCancelled && !call.isAccepted;
      call.reject(isOurWish ? new BangerError('cancelled', 'Cancelled') : new EngineGone(call.isAccepted));
    }
    this.#pending.clear();
  }
}

/** What the user is told when the engine died under a call. */
export function lostEngine(): BangerError {
  return new BangerError('internal', 'The engine ended before it answered', {
    hint: 'VMs are not affected; the next command starts it again. Its log is named by: banger engine status',
  });
}
