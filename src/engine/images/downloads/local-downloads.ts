import type { Log } from '../../log.ts';
import { ensureBlob } from '../registry/blobs.ts';
import type { FindCredentials } from '../registry/docker-auth.ts';
import type { Pace } from '../registry/download-pace.ts';
import { Registry } from '../registry/registry.ts';
import type { Transport } from '../registry/transport.ts';
import { downloadFile } from './download-file.ts';
import type { Downloads, Registries } from './downloads.ts';

/** What downloads are made with; tests bring their own. */
export interface DownloadTools {
  readonly transport: Transport;
  readonly credentials: FindCredentials;
  readonly registries: () => Registries;
  /** First pause before another attempt; it doubles with each */
  readonly retryDelayMs: number;
  readonly pace: Pace;
  readonly log: Log;
}

/** Fetches in the thread that calls it. */
export function localDownloads(tools: DownloadTools): Downloads {
  const { transport, retryDelayMs, pace } = tools;
  return {
    repository: (reference) => {
      const registry = new Registry(reference, { ...tools, registries: tools.registries() });
      return {
        manifest: (tagOrDigest, signal) => registry.manifest(tagOrDigest, signal),
        smallBlob: (digest, signal) => registry.smallBlob(digest, signal),
        blob: (request) =>
          ensureBlob({
            ...request,
            source: (from, signal) => registry.blob(request.blob.digest, from, signal),
            retryDelayMs,
            pace,
          }),
        [Symbol.dispose]: () => undefined,
      };
    },
    file: (download, path, operation) =>
      downloadFile(download, { path, transport, retryDelayMs, pace }, operation),
  };
}
