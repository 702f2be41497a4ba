import type { MessagePort } from 'node:worker_threads';
import { abortError, BangerError } from '../../../errors.ts';
import { convertLayers } from '../layers/layers.ts';
import {
  encodeError,
  type FromThread,
  type Progress,
  type ThreadOptions,
  type ToThread,
} from './thread-messages.ts';

/** Progress more often than this is nobody's use, and costs the engine turns. */
const progressIntervalMs = 50;

/** The thread's side of `convertInThread`: converts, and tells the engine how it went. Never throws. */
export async function runConversion(port: MessagePort, options: ThreadOptions): Promise<void> {
  const abort = new AbortController();
  const inbox = new LayerInbox(options.window, (message) => port.postMessage(message));
  port.on('message', (message: ToThread) => {
    if (message.type !== 'cancel') return inbox.accept(message);
    abort.abort(new BangerError('cancelled', 'Cancelled'));
    inbox.fail(abortError(abort.signal));
  });
  const tell = (message: FromThread): void => port.postMessage(message);
  try {
    const result = await convertLayers({
      ...options,
      layers: options.layers.map(({ label, diffId }, layer) => ({
        label,
        ...(diffId === undefined ? {} : { diffId }),
        open: () => inbox.read(layer),
      })),
      signal: abort.signal,
      onProgress: seldom((progress) => tell({ type: 'progress', progress })),
    });
    tell({ type: 'done', result });
  } catch (error) {
    tell({ type: 'failed', error: encodeError(error) });
  } finally {
    // Nothing else keeps the thread.
    port.close();
  }
}

/** Layers on their way from the engine; one is read at a time. */
class LayerInbox {
  readonly #window: SharedArrayBuffer;
  readonly #tell: (message: FromThread) => void;
  readonly #waiting = new Map<number, { readonly at: number; readonly bytes: number }[]>();
  #ended = new Set<number>();
  #failure: Error | undefined;
  #wake: () => void = () => undefined;

  constructor(window: SharedArrayBuffer, tell: (message: FromThread) => void) {
    this.#window = window;
    this.#tell = tell;
  }

  accept(message: Exclude<ToThread, { type: 'cancel' }>): void {
    if (message.type === 'data') this.#waiting.get(message.layer)?.push(message);
    else if (message.isBroken) this.#failure = new Error('the layer cannot be read');
    else this.#ended.add(message.layer);
    this.#wake();
  }

  fail(error: Error): void {
    this.#failure = error;
    this.#wake();
  }

  /** Chunks are parts of the window: each is valid until the next one is asked for. */
  async *read(layer: number): AsyncGenerator<Buffer> {
    const queue: { readonly at: number; readonly bytes: number }[] = [];
    this.#waiting.set(layer, queue);
    this.#tell({ type: 'open', layer });
    try {
      for (;;) {
        if (this.#failure) throw this.#failure;
        const next = queue.shift();
        if (next) {
          yield Buffer.from(this.#window, next.at, next.bytes);
          this.#tell({ type: 'taken', layer, bytes: next.bytes });
        } else if (this.#ended.has(layer)) {
          return;
        } else {
          await new Promise<void>((resolve) => (this.#wake = resolve));
        }
      }
    } finally {
      this.#waiting.delete(layer);
      this.#tell({ type: 'close', layer });
    }
  }
}

function seldom(tell: (progress: Progress) => void): (progress: Progress) => void {
  let last = -Infinity;
  return (progress) => {
    const now = performance.now();
    if (now - last < progressIntervalMs) return;
    last = now;
    tell(progress);
  };
}
