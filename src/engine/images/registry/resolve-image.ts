import { createHash } from 'node:crypto';
import type { ImageConfig } from '../../../state/images.ts';
import {
  chooseManifest,
  maxDocumentBytes,
  parseManifest,
  parseOciConfig,
  refused,
  type Descriptor,
  type Platform,
} from './manifest.ts';

/** An image whose layers are known, not yet fetched. */
export interface ResolvedImage {
  /** Hex SHA-256 of the config */
  readonly id: string;
  readonly config: ImageConfig;
  /** Oldest first; their digests are of the bytes as stored, mostly compressed */
  readonly layers: readonly Descriptor[];
  /** Of the uncompressed layers, in the same order */
  readonly diffIds: readonly string[];
  /** Manifest and config, byte for byte */
  readonly documents: ImageDocuments;
}

/** What describes an image, as it came. Absent: there was none. */
export interface ImageDocuments {
  readonly manifest?: Buffer;
  readonly config?: Buffer;
}

export interface ResolveOptions {
  /** Bytes of the manifest or index to begin with, already verified */
  readonly top: Buffer;
  /** Fetches what a descriptor names; the bytes are checked here */
  readonly fetch: (kind: 'manifest' | 'blob', descriptor: Descriptor) => Promise<Buffer>;
  readonly platform: Platform;
  /** For messages */
  readonly image: string;
}

/** Index in index in index: nobody builds that deep. */
const maxDepth = 3;

/** Walks from a manifest or index to the layers of the image for a platform. Everything on the way is checked by hash. */
export async function resolveImage(options: ResolveOptions): Promise<ResolvedImage> {
  const { platform, image } = options;
  let bytes = options.top;
  let document = parseManifest(bytes, image);
  for (let depth = 0; document.kind === 'index'; depth++) {
    if (depth === maxDepth) throw refused(image, 'its indexes are nested too deep');
    const chosen = chooseManifest(document, platform, image);
    bytes = await fetchChecked(options, 'manifest', chosen);
    document = parseManifest(bytes, image);
  }

  const { config: descriptor, layers } = document;
  const configBytes = await fetchChecked(options, 'blob', descriptor);
  const oci = parseOciConfig(configBytes, platform, image);
  if (oci.diffIds.length !== layers.length) {
    throw refused(image, `its config names ${oci.diffIds.length} layers and its manifest ${layers.length}`);
  }
  return {
    id: hexOf(descriptor.digest),
    config: oci.config,
    layers,
    diffIds: oci.diffIds,
    documents: { manifest: bytes, config: configBytes },
  };
}

/** `sha256:…` of some bytes. */
export function digestOf(bytes: Buffer | string): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/** The hex part of a digest that was checked to be a SHA-256. */
export function hexOf(digest: string): string {
  return digest.slice('sha256:'.length);
}

async function fetchChecked(
  options: ResolveOptions,
  kind: 'manifest' | 'blob',
  descriptor: Descriptor,
): Promise<Buffer> {
  if (descriptor.size > maxDocumentBytes) {
    throw refused(options.image, `its ${kind === 'blob' ? 'config' : 'manifest'} is larger than 4 MiB`);
  }
  const bytes = await options.fetch(kind, descriptor);
  if (bytes.length !== descriptor.size || digestOf(bytes) !== descriptor.digest) {
    throw refused(options.image, `what came for ${descriptor.digest} has another hash or size`);
  }
  return bytes;
}
