import type { Progress } from '../../operations.ts';
import type { Log } from '../../log.ts';
import type { Reference } from '../reference.ts';
import type { BlobState } from '../registry/blobs.ts';
import type { Descriptor } from '../registry/manifest.ts';
import type { SentError } from '../sent-error.ts';
import type { DownloadUse } from './download.ts';
import type { Registries } from './downloads.ts';

/** What the engine wants of the thread, of which it hears by the number of the call. */
export type Wanted =
  | { readonly kind: 'manifest'; readonly repository: number; readonly tagOrDigest: string }
  | { readonly kind: 'small blob'; readonly repository: number; readonly digest: string }
  | {
      readonly kind: 'blob';
      readonly repository: number;
      readonly directory: string;
      readonly blob: Descriptor;
    }
  | {
      readonly kind: 'file';
      readonly url: string;
      readonly sha256: string;
      readonly use: DownloadUse;
      readonly path: string;
    };

/** What each kind of call comes back with. Buffers become plain arrays on their way. */
export interface Results {
  readonly manifest: { readonly bytes: Uint8Array; readonly digest: string };
  readonly 'small blob': Uint8Array;
  readonly blob: string;
  readonly file: undefined;
}

export type ToThread =
  /** The configuration as it is for all that is wanted from now on */
  | { readonly type: 'registries'; readonly registries: Registries }
  | { readonly type: 'open'; readonly repository: number; readonly reference: Reference }
  | { readonly type: 'close'; readonly repository: number }
  | { readonly type: 'call'; readonly call: number; readonly wanted: Wanted }
  /** The call ends with an error before long */
  | { readonly type: 'cancel'; readonly call: number }
  /** A point has been passed */
  | { readonly type: 'go on'; readonly call: number; readonly error: SentError | undefined };

export type FromThread =
  | { readonly type: 'blob'; readonly call: number; readonly state: BlobState; readonly done: number }
  | { readonly type: 'progress'; readonly call: number; readonly progress: Omit<Progress, 'stage'> }
  | { readonly type: 'done'; readonly call: number; readonly result: Results[Wanted['kind']] }
  | { readonly type: 'failed'; readonly call: number; readonly error: SentError }
  /** A point at which tests have an engine die; the call waits there until it is told to go on */
  | { readonly type: 'reached'; readonly call: number; readonly point: string }
  | {
      readonly type: 'log';
      readonly level: Parameters<Log>[0];
      readonly message: string;
      readonly fields: Parameters<Log>[2];
    };
