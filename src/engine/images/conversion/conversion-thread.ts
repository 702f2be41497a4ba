import type { MessagePort } from 'node:worker_threads';
import { abortError, BangerError } from '../../../errors.ts';
import { convertLayers } from '../layers/layers.ts';
import { seldom } from '../seldom.ts';
import { encodeError } from '../sent-error.ts';
import { LayerInbox } from './layer-inbox.ts';
import type { FromThread, ThreadOptions, ToThread } from './thread-messages.ts';

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
