import * as z from 'zod/mini';
import { imageView } from './image-methods.ts';
import { method, streamMethod } from './method.ts';

const text = z.string().check(z.minLength(1));

/** Sends an image as a bundle, in stdout frames. The exit frame is a `bundleSummary`. */
export const imageBundle = streamMethod('image.bundle', z.object({ reference: text }));

export const bundleSummary = z.object({
  /** Hex, of the bundle */
  sha256: z.string(),
  /** Of its filesystem, as a guest sees it */
  sizeBytes: z.number(),
});

/** Makes an image of a bundle: a file of the host, or one on a server whose hash is known. */
export const imagePullBundle = method(
  'image.pull-bundle',
  z.object({
    source: z.string().check(z.regex(/^(?:\/|https?:\/\/)/i, 'is neither a path nor an address')),
    sha256: z.optional(z.string().check(z.regex(/^[0-9a-fA-F]{64}$/, 'is not a SHA-256 of 64 hex digits'))),
    name: z.optional(text),
  }),
  imageView,
);
