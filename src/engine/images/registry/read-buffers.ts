import type { Socket } from 'node:net';
import type { buildConnector } from 'undici';

/** What Node reads from a socket at once */
const bufferBytes = 64 * 1024;
/** Kept for the next read; more than the streams of a few downloads hold at a time */
const maxFree = 16;

/**
 * Memory that sockets read into, used again and again: whoever has used up a chunk of a body gives it back.
 *
 * Node reads into a new buffer each time. The engine's allocator has each of them from the kernel, page by page, and
 * gives it back later, for which every processor is interrupted: that takes longer than to receive what is in it.
 */
export class ReadBuffers {
  readonly #free: ArrayBuffer[] = [];
  /** Buffers that are in use, and how much of each was filled */
  readonly #filled = new WeakMap<ArrayBufferLike, number>();

  /** Connects as `connector` does, for sockets whose data comes in these buffers. */
  reading(
    build: (options: {
      readonly onread: { buffer: Uint8Array; callback: (bytes: number) => boolean };
    }) => buildConnector.connector,
  ): buildConnector.connector {
    return (options, callback) => {
      const arrived = Buffer.allocUnsafeSlow(bufferBytes);
      const onread = {
        buffer: arrived,
        callback: (bytes: number): boolean => socket.push(this.#copy(arrived.subarray(0, bytes))),
      };
      // Undici's types do not say that it returns it.
      const connect = build({ onread }) as unknown as (
        ...given: Parameters<buildConnector.connector>
      ) => Socket;
      const socket = connect(options, callback);
      return socket as unknown as void;
    };
  }

  /**
   * Takes a chunk back that came from a socket, or nothing that did. Chunks of a body are parts of what was read: the
   * last part of it gives the buffer back, so that all before it must have been used up.
   */
  giveBack({ buffer, byteOffset, length }: Buffer): void {
    if (byteOffset + length !== this.#filled.get(buffer)) return;
    this.#filled.delete(buffer);
    if (this.#free.length < maxFree) this.#free.push(buffer as ArrayBuffer);
  }

  #copy(arrived: Buffer): Buffer {
    const buffer = this.#free.pop() ?? Buffer.allocUnsafeSlow(bufferBytes).buffer;
    const copy = Buffer.from(buffer, 0, arrived.copy(Buffer.from(buffer)));
    this.#filled.set(buffer, copy.length);
    return copy;
  }
}
