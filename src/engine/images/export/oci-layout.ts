import type { Image } from '../../../state/images.ts';
import { familiarName } from '../reference.ts';
import { digestOf, hexOf } from '../registry/resolve-image.ts';
import { bytesMember, type ArchiveMember } from './archive-member.ts';

/** A layer that is about to be exported. */
export interface ExportedLayer {
  readonly digest: string;
  readonly sizeBytes: number;
  readonly content: ArchiveMember['content'];
}

/** An image as its documents and layers. */
export interface ExportedImage {
  readonly manifest: Buffer;
  readonly config: Buffer;
  /** Oldest first */
  readonly layers: readonly ExportedLayer[];
  readonly original: boolean;
}

export const ociMediaTypes = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  index: 'application/vnd.oci.image.index.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  tar: 'application/vnd.oci.image.layer.v1.tar',
} as const;

/**
 * The files of an OCI layout (image-spec, “Image Layout”) with one image; with `isDocker`, also the `manifest.json`
 * by which `docker load` finds its way in it. `name` is the stored name it is to have where it is loaded.
 */
export function layoutMembers(
  image: ExportedImage,
  { name, isDocker }: { readonly name: string | undefined; readonly isDocker: boolean },
): ArchiveMember[] {
  const digest = digestOf(image.manifest);
  const tagged = name === undefined ? undefined : taggedName(name);
  const index = {
    schemaVersion: 2,
    mediaType: ociMediaTypes.index,
    manifests: [
      {
        mediaType: mediaTypeOf(image.manifest),
        digest,
        size: image.manifest.length,
        annotations: tagged && {
          'io.containerd.image.name': tagged.full,
          'org.opencontainers.image.ref.name': tagged.tag,
        },
      },
    ],
  };
  const config = blobPath(digestOf(image.config));
  const dockerManifest = [
    {
      Config: config,
      RepoTags: tagged ? [familiarName(tagged.full)] : [],
      Layers: image.layers.map((layer) => blobPath(layer.digest)),
    },
  ];
  const unique = new Map(image.layers.map((layer) => [layer.digest, layer]));
  return [
    bytesMember('oci-layout', JSON.stringify({ imageLayoutVersion: '1.0.0' })),
    bytesMember('index.json', JSON.stringify(index)),
    // Before the layers: who reads a pipe knows then what is to come.
    ...(isDocker ? [bytesMember('manifest.json', JSON.stringify(dockerManifest))] : []),
    bytesMember(blobPath(digest), image.manifest),
    bytesMember(config, image.config),
    ...[...unique.values()].map(({ digest: layer, sizeBytes, content }) => ({
      path: blobPath(layer),
      sizeBytes,
      content,
    })),
  ];
}

/** The name that an exported image gets where it is loaded: the one meant, else its first with a tag. */
export function exportedName(image: Image, meant: string | undefined): string | undefined {
  return [meant, ...image.names].find((name) => name !== undefined && !name.includes('@'));
}

function taggedName(name: string): { full: string; tag: string } {
  const colon = name.lastIndexOf(':');
  // The image inside the binary is `base` and nothing more.
  if (colon <= name.lastIndexOf('/')) return { full: `docker.io/library/${name}:latest`, tag: 'latest' };
  return { full: name, tag: name.slice(colon + 1) };
}

function mediaTypeOf(manifest: Buffer): string {
  const { mediaType } = JSON.parse(manifest.toString('utf8')) as { mediaType?: string };
  return mediaType ?? ociMediaTypes.manifest;
}

function blobPath(digest: string): string {
  return `blobs/sha256/${hexOf(digest)}`;
}
