import * as z from 'zod/mini';
import { method, question, streamMethod } from './method.ts';

/** An image as clients see it. Host paths stay inside the engine. */
export const imageView = z.object({
  /** Hex SHA-256 of the content's description */
  id: z.string(),
  names: z.array(z.string()),
  source: z.enum(['pull', 'import', 'embedded', 'bundle', 'register']),
  /** Manifest digest given by the registry, for the name asked for or the first that has one */
  digest: z.optional(z.string()),
  /** The same by name: tags of one image may have different manifests */
  digests: z.record(z.string(), z.string()),
  /** Filesystem as a guest sees it; it is sparse on the host */
  sizeBytes: z.number(),
  contentBytes: z.number(),
  os: z.string(),
  hasShell: z.boolean(),
  createdAt: z.string(),
  usedBy: z.array(z.string()),
});
export type ImageView = z.output<typeof imageView>;

export const imageDetails = z.extend(imageView, {
  /** Oldest first */
  layers: z.array(
    z.object({
      digest: z.string(),
      /** As it came, mostly compressed; absent when nobody said */
      sizeBytes: z.optional(z.number()),
      /** It is in the cache of downloads */
      isCached: z.boolean(),
    }),
  ),
  config: z.object({
    env: z.array(z.string()),
    workingDirectory: z.optional(z.string()),
    user: z.optional(z.string()),
    entrypoint: z.optional(z.array(z.string())),
    command: z.optional(z.array(z.string())),
  }),
  osRelease: z.record(z.string(), z.string()),
  /** The user's own file that a registered image is */
  path: z.optional(z.string()),
});
export type ImageDetails = z.output<typeof imageDetails>;

const reference = z.string().check(z.minLength(1));
const hostPath = z.string().check(z.regex(/^\//));

/** Fetches an image and makes it bootable. Long-running; two pulls of one reference share the work. */
export const imagePull = method('image.pull', z.object({ reference }), imageView);

/** Makes an image of a file on the host: a rootfs tar, a `docker save` archive, an OCI layout (directory or tar). */
export const imageImport = method(
  'image.import',
  // `ref`: which image of an archive of several, by its name there
  z.object({ path: hostPath, name: reference, ref: z.optional(reference) }),
  imageView,
);

/** The same of what the client sends as standard input. The exit frame holds the image, as `imageView`. */
export const imageImportStream = streamMethod(
  'image.import-stream',
  z.object({ name: reference, ref: z.optional(reference) }),
);

/** What an exported image looks like: `docker` is an OCI layout that `docker load` reads as well. */
export const exportFormats = ['docker', 'oci'] as const;

/** Sends an image as one tar, in stdout frames. The exit frame is an `exportSummary`. */
export const imageExport = streamMethod(
  'image.export',
  z.object({ reference, format: z._default(z.enum(exportFormats), 'docker') }),
);

export const exportSummary = z.object({
  /** Of the manifest in it */
  digest: z.string(),
  /** True when its layers are those it was pulled with, byte for byte; else it has one, made of its filesystem */
  original: z.boolean(),
  layers: z.int(),
});

/** Writes an image as an OCI layout into an empty directory of the host. Whoever made the directory removes it on failure. */
export const imageExportLayout = method(
  'image.export-layout',
  z.object({ reference, directory: hostPath }),
  exportSummary,
);

/** Makes an image of an ext4 filesystem that stays where it is, and stays the user's. */
export const imageRegister = method(
  'image.register',
  z.object({ path: hostPath, name: reference }),
  imageView,
);

/** Copies a registered image's filesystem to where banger keeps its own; its names lead there afterwards. */
export const imagePromote = method('image.promote', z.object({ reference }), imageView);

/** Gives an image one more name. A name that led elsewhere moves, as with docker. */
export const imageTag = method('image.tag', z.object({ reference, name: reference }), imageView);

/** Replaces a name of an image by another. */
export const imageRename = method('image.rename', z.object({ reference, name: reference }), imageView);

export const imageList = question('image.list', z.object({}), z.array(imageView));
export const imageShow = question('image.show', z.object({ reference }), imageDetails);

/** The short names that banger knows, and what they stand for. */
export const imageCatalog = method(
  'image.catalog',
  z.object({}),
  z.array(
    z.object({
      name: z.string(),
      reference: z.string(),
      description: z.string(),
      /** Written by the user, in the configuration */
      isOwn: z.boolean(),
      /** The image is on this host */
      isPresent: z.boolean(),
    }),
  ),
);

/** Deletes an image, or just the name given when it has others. Refused while VMs use it. */
export const imageDelete = method(
  'image.delete',
  z.object({ reference }),
  z.object({ untagged: z.array(z.string()), deleted: z.nullable(z.string()) }),
);
