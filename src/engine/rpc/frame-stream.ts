import type { Socket } from 'node:net';
import { abortError, errorText } from '../../errors.ts';
import { encodeFrame, FrameReader, type Frame, type FrameType } from './frames.ts';

/** The engine's side of an upgraded connection. */
export interface EngineStream {
  /** Sends a frame; resolves when the client can take more. Rejects when the operation's signal fires before that. */
  send(type: FrameType, payload?: Buffer | string): Promise<void>;
  /** Frames from the client. The next piece of standard input comes when the handler's promise has settled. */
  onFrame(handler: (frame: Frame) => void | Promise<void>): void;
}

/** Standard input that a client may send ahead, with some slack for frames under way. */
const maxWaitingBytes = 4 * 1024 * 1024;
/** What a frame takes besides its payload: empty ones count too. */
const frameOverheadBytes = 128;

/** Frames over a socket. Standard input is handed on in order, each piece when the one before is done; the rest at once. */
export class FrameStream implements EngineStream {
  readonly #socket: Socket;
  readonly #reader = new FrameReader();
  readonly #waiting: Frame[] = [];
  #waitingBytes = 0;
  #handler: ((frame: Frame) => void | Promise<void>) | undefined;
  #busy = false;
  #signal: AbortSignal | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  receive(chunk: Buffer): void {
    for (const frame of this.#reader.push(chunk)) {
      const isInput = frame.type === 'stdin' || frame.type === 'stdin-end';
      if (this.#handler && !isInput) void this.#handle(frame);
      else this.#hold(frame);
    }
    this.#drain();
  }

  onFrame(handler: (frame: Frame) => void | Promise<void>): void {
    this.#handler = handler;
    this.#drain();
  }

  /** Whose signal ends the waiting: a client that has stopped reading keeps no work from being cancelled. */
  serve(signal: AbortSignal): void {
    this.#signal = signal;
  }

  async send(type: FrameType, payload: Buffer | string = ''): Promise<void> {
    if (!this.#socket.writable || this.tell(type, payload)) return;
    const signal = this.#signal;
    if (signal?.aborted) throw abortError(signal);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const onAbort = (): void => reject(abortError(signal!));
    this.#socket.on('drain', resolve);
    this.#socket.on('close', resolve);
    signal?.addEventListener('abort', onAbort);
    try {
      await promise;
    } finally {
      this.#socket.off('drain', resolve);
      this.#socket.off('close', resolve);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Sends a frame and does not wait; false when the client should be given time to take it. */
  tell(type: FrameType, payload: Buffer | string): boolean {
    return !this.#socket.writable || this.#socket.write(encodeFrame(type, payload));
  }

  /** Sends the last frame and ends the connection, once the client has taken all of it. */
  finish(type: 'exit' | 'failure', payload: unknown): void {
    // Frames that still arrive have no reader any more.
    this.#handler = () => undefined;
    this.tell(type, JSON.stringify(payload));
    this.#socket.end();
  }

  #hold(frame: Frame): void {
    this.#waiting.push({ type: frame.type, payload: withoutItsChunk(frame.payload) });
    this.#waitingBytes += frame.payload.length + frameOverheadBytes;
    if (this.#waitingBytes > maxWaitingBytes)
      this.#socket.destroy(new Error('A client sent more than it had credit for'));
  }

  #drain(): void {
    if (this.#busy || !this.#handler) return;
    const frame = this.#waiting.shift();
    if (!frame) return;
    this.#waitingBytes -= frame.payload.length + frameOverheadBytes;
    this.#busy = true;
    void this.#handle(frame).finally(() => {
      this.#busy = false;
      this.#drain();
    });
  }

  async #handle(frame: Frame): Promise<void> {
    try {
      await this.#handler?.(frame);
    } catch (error) {
      // Whoever cancelled is answered when everything is undone.
      if (this.#signal?.aborted) return;
      this.#socket.destroy(new Error(errorText(error)));
    }
  }
}

/** A few bytes that wait must not keep the large chunk in memory with which they came. */
function withoutItsChunk(payload: Buffer): Buffer {
  return payload.length * 2 < payload.buffer.byteLength ? Buffer.from(payload) : payload;
}
