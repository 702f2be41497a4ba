import { BangerError, errnoOf, type ErrorCode } from '../../../errors.ts';
import type { ConvertOptions, ConvertResult } from '../layers/layers.ts';

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

/** Layers are read in the engine, which has the downloads, and go to the thread piece by piece. */
export type ToThread =
  /** So many bytes of the layer lie in the window from `at` on, until the thread says that it has taken them */
  | { readonly type: 'data'; readonly layer: number; readonly at: number; readonly bytes: number }
  /** The layer is complete, or (`isBroken`) cannot be read on: the engine keeps the reason */
  | { readonly type: 'end'; readonly layer: number; readonly isBroken: boolean }
  | { readonly type: 'cancel' };

export type FromThread =
  | { readonly type: 'open'; readonly layer: number }
  /** So many bytes more were taken, in the order they came: their place is free again */
  | { readonly type: 'taken'; readonly layer: number; readonly bytes: number }
  /** Nothing more of this layer is wanted */
  | { readonly type: 'close'; readonly layer: number }
  | { readonly type: 'progress'; readonly progress: Progress }
  | { readonly type: 'done'; readonly result: ConvertResult }
  | { readonly type: 'failed'; readonly error: SentError };

/** An error on its way between threads, of which structured cloning would keep the text only. */
export interface SentError {
  readonly message: string;
  readonly stack: string | undefined;
  /** Of a `BangerError` */
  readonly code?: ErrorCode;
  readonly hint?: string | undefined;
  /** Such as `ENOSPC` */
  readonly errno?: string | undefined;
}

export function encodeError(error: unknown): SentError {
  if (error instanceof BangerError) {
    return { message: error.message, stack: error.stack, code: error.code, hint: error.hint };
  }
  if (!(error instanceof Error)) return { message: String(error), stack: undefined };
  return { message: error.message, stack: error.stack, errno: errnoOf(error) };
}

export function decodeError({ message, stack, code, hint, errno }: SentError): Error {
  const error =
    code === undefined
      ? new Error(message)
      : new BangerError(code, message, hint === undefined ? {} : { hint });
  if (stack !== undefined) error.stack = stack;
  return errno === undefined ? error : Object.assign(error, { code: errno });
}
