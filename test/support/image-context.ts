import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { expect } from 'vitest';
import { localDownloads, type DownloadTools } from '../../src/engine/images/downloads/local-downloads.ts';
import type { ConvertLayers, ImagesContext, ImageTools } from '../../src/engine/images/image-services.ts';
import { defaultPace } from '../../src/engine/images/registry/download-pace.ts';
import { createTransport } from '../../src/engine/images/registry/transport.ts';
import { createLocks } from '../../src/engine/locks.ts';
import type { Log } from '../../src/engine/log.ts';
import type { Operation, Progress } from '../../src/engine/operations.ts';
import { parseConfig } from '../../src/state/config.ts';
import { openDatabase } from '../../src/state/database.ts';
import { listImages } from '../../src/state/images.ts';
import { resolveLayout } from '../../src/state/layout.ts';

/** Everything work on images needs, in a directory of its own; conversion writes the layers one after the other. */
export function imageContext(
  options: { tools?: Partial<ImageTools & DownloadTools>; config?: string; base?: () => string } = {},
): ImagesContext & Disposable & { readonly logged: string[]; readonly directory: string } {
  const directory = mkdtempSync(join(tmpdir(), 'banger-images-'));
  const logged: string[] = [];
  const db = openDatabase(':memory:');
  const log: Log = (_level, message) => void logged.push(message);
  const { registries } = parseConfig(options.config ?? '', 'config.toml');
  return {
    directory,
    layout: resolveLayout({
      env: { BANGER_HOME: directory },
      home: directory,
      uid: 0,
      temporaryDirectory: directory,
    }),
    db,
    locks: createLocks(),
    log,
    assets: {
      buildId: 'test',
      file: () => Promise.reject(new Error('no file')),
      open: () => Readable.from([Buffer.from(options.base?.() ?? 'base')]),
    },
    config: () => parseConfig(options.config ?? '', 'config.toml'),
    imageTools: {
      convert: concatenate,
      downloads: localDownloads({
        credentials: () => Promise.resolve(undefined),
        transport: createTransport({ env: {}, certificates: () => undefined }),
        registries: () => registries,
        retryDelayMs: 1,
        pace: defaultPace,
        log,
        ...options.tools,
      }),
      ...options.tools,
    },
    logged,
    [Symbol.dispose]() {
      db.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** In place of the real conversion: the layers' bytes in order are the "filesystem". */
export const concatenate: ConvertLayers = async ({ layers, destination, signal }) => {
  const parts: Buffer[] = [];
  for (const layer of layers) {
    signal.throwIfAborted();
    for await (const chunk of layer.open() as AsyncIterable<Buffer>) parts.push(Buffer.from(chunk));
  }
  const content = Buffer.concat(parts);
  await writeFile(destination, content);
  return {
    sizeBytes: content.length,
    contentBytes: content.length,
    entries: layers.length,
    diffIds: layers.map(
      ({ diffId }) => diffId ?? `sha256:${createHash('sha256').update(content).digest('hex')}`,
    ),
    osRelease: { PRETTY_NAME: 'Test Linux' },
    hasShell: true,
  };
};

export interface RecordedOperation extends Operation {
  readonly stages: string[];
  readonly progressed: Omit<Progress, 'stage'>[];
  cancel(): void;
}

/** An operation that keeps what it is told. */
export function recordedOperation(): RecordedOperation {
  const abort = new AbortController();
  return {
    id: 'op-test',
    kind: 'test',
    signal: abort.signal,
    // Methods, as the engine's operations have them: of no use without their object.
    enter(stage) {
      this.stages.push(stage);
    },
    progress(progress) {
      this.progressed.push(progress);
    },
    stages: [],
    progressed: [],
    cancel: () => abort.abort(),
  };
}

/** No image is listed, and no file of one is left. */
export function expectNoImages(context: ReturnType<typeof imageContext>): void {
  expect(listImages(context.db)).toEqual([]);
  expect(readdirSync(context.layout.imagesDirectory)).toEqual(['.staging']);
  expect(readdirSync(context.layout.imageStagingDirectory)).toEqual([]);
}
