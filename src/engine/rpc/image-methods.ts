import * as z from 'zod/mini';
import { method } from './method.ts';

/** An image as clients see it. Host paths stay inside the engine. */
export const imageView = z.object({
  /** Hex SHA-256 of the content's description */
  id: z.string(),
  names: z.array(z.string()),
  source: z.enum(['pull', 'import', 'embedded']),
  /** Manifest digest given by the registry */
  digest: z.optional(z.string()),
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
  layers: z.array(z.string()),
  config: z.object({
    env: z.array(z.string()),
    workingDirectory: z.optional(z.string()),
    user: z.optional(z.string()),
    entrypoint: z.optional(z.array(z.string())),
    command: z.optional(z.array(z.string())),
  }),
  osRelease: z.record(z.string(), z.string()),
});
export type ImageDetails = z.output<typeof imageDetails>;

const reference = z.string().check(z.minLength(1));

/** Fetches an image and makes it bootable. Long-running; two pulls of one reference share the work. */
export const imagePull = method('image.pull', z.object({ reference }), imageView);

/** Makes an image of a file on the host: a rootfs tar, a `docker save` archive, an OCI layout (directory or tar). */
export const imageImport = method(
  'image.import',
  z.object({ path: z.string().check(z.regex(/^\//)), name: reference }),
  imageView,
);

export const imageList = method('image.list', z.object({}), z.array(imageView));
export const imageShow = method('image.show', z.object({ reference }), imageDetails);

/** Deletes an image, or just the name given when it has others. Refused while VMs use it. */
export const imageDelete = method(
  'image.delete',
  z.object({ reference }),
  z.object({ untagged: z.array(z.string()), deleted: z.nullable(z.string()) }),
);
