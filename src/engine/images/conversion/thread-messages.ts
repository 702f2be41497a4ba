import type { ConvertOptions, ConvertResult } from '../layers/layers.ts';
import type { FilePiece } from './layer-feeds.ts';
import type { SentError } from '../sent-error.ts';

/** What the thread is started with: the options of a conversion that can be copied to it. */
export interface ThreadOptions extends Omit<ConvertOptions, 'layers' | 'signal' | 'onProgress'> {
  readonly layers: readonly { readonly label: string; readonly diffId: string | undefined }[];
  /** Where the bytes of layers lie on their way to the thread */
  readonly window: SharedArrayBuffer;
}

export interface Progress {
  readonly layer: number;
  readonly entries: number;
  readonly bytes: number;
}

/** A layer is a file that the thread reads, or is read by the engine and goes to the thread piece by piece. */
export type ToThread =
  /** The layer is in an open file, and is there up to `end` by now */
  | ({ readonly type: 'file'; readonly layer: number } & FilePiece)
  /** So many bytes of the layer lie in the window from `at` on, until the thread says that it has taken them */
  | { readonly type: 'data'; readonly layer: number; readonly at: number; readonly bytes: number }
  /** The layer is complete, or (`isBroken`) cannot be read on: the engine keeps the reason */
  | { readonly type: 'end'; readonly layer: number; readonly isBroken: boolean }
  | { readonly type: 'cancel' };

export type FromThread =
  | { readonly type: 'open'; readonly layer: number }
  /** So many bytes more were taken, in the order they came: their place is free again */
  | { readonly type: 'taken'; readonly layer: number; readonly bytes: number }
  /** Nothing more of this layer is wanted, and its file is not read any more */
  | { readonly type: 'close'; readonly layer: number }
  | { readonly type: 'progress'; readonly progress: Progress }
  | { readonly type: 'done'; readonly result: ConvertResult }
  | { readonly type: 'failed'; readonly error: SentError };
