import type { RegistryConfig } from '../../../state/config.ts';
import type { Operation } from '../../operations.ts';
import type { Reference } from '../reference.ts';
import type { BlobRequest } from '../registry/blobs.ts';
import type { Download } from './download.ts';

/** What the configuration says of registries, by host. */
export type Registries = Readonly<Record<string, RegistryConfig>>;

/** Fetches from registries and other servers. Errors are for the person who waits. */
export interface Downloads {
  /** A repository for one pull. What works there, and its login, is remembered until it is disposed of. */
  repository(reference: Reference): Repository;
  /** Fetches a file to a path that must not exist yet, and checks its hash. */
  file(download: Download, path: string, operation: Pick<Operation, 'signal' | 'progress'>): Promise<void>;
}

/** Where the parts of an image come from: mirrors, then the registry itself. Disposing of it ends no call. */
export interface Repository extends Disposable {
  /** Fetches a manifest or index by tag or digest, at most 4 MiB, and says what its digest is. */
  manifest(
    tagOrDigest: string,
    signal: AbortSignal,
  ): Promise<{ readonly bytes: Buffer; readonly digest: string }>;
  /** Fetches a small blob, such as a config, at most 4 MiB. The caller checks its hash. */
  smallBlob(digest: string, signal: AbortSignal): Promise<Buffer>;
  /** Makes a blob present in the cache and returns its path, as `ensureBlob` does. */
  blob(request: WantedBlob): Promise<string>;
}

export type WantedBlob = Pick<BlobRequest, 'directory' | 'blob' | 'signal' | 'onProgress' | 'reached'>;
