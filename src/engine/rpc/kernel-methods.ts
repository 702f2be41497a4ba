import * as z from 'zod/mini';
import { method } from './method.ts';

/** A kernel as clients see it. */
export const kernelView = z.object({
  /** Hex SHA-256 of its content; `embedded` for the one inside banger */
  id: z.string(),
  names: z.array(z.string()),
  /** As `uname -r` says in a guest */
  version: z.string(),
  arch: z.string(),
  source: z.enum(['embedded', 'import', 'pull']),
  /** File or URL that it came from */
  origin: z.optional(z.string()),
  /** `elf` boots uncompressed, `bzimage` only compressed, which takes longer */
  format: z.enum(['elf', 'bzimage']),
  imageBytes: z.number(),
  modulesBytes: z.number(),
  isDefault: z.boolean(),
  /** What its guests cannot do */
  warnings: z.array(z.string()),
  usedBy: z.array(z.string()),
  createdAt: z.optional(z.string()),
});
export type KernelView = z.output<typeof kernelView>;

export const kernelDetails = z.extend(kernelView, {
  /** Names of the modules that guests load, in that order */
  modules: z.array(z.string()),
  /** It finds devices by words on its command line, too, as Firecracker 1.7 has it; absent: nobody has looked */
  readsDeviceWords: z.optional(z.boolean()),
});
export type KernelDetails = z.output<typeof kernelDetails>;

const reference = z.string().check(z.minLength(1));
const hostPath = z.string().check(z.regex(/^\//));
const name = z.optional(reference);

/** Makes a kernel of files on the host: vmlinux, bzImage, Debian package or tar; modules beside it or in it. */
export const kernelImport = method(
  'kernel.import',
  z.object({ path: hostPath, modulesPath: z.optional(hostPath), name }),
  kernelView,
);

/** Fetches a kernel whose hash is known: by a name of the configuration, or by URL. */
export const kernelPull = method(
  'kernel.pull',
  z.object({ source: reference, modules: z.optional(reference), sha256: z.optional(z.string()), name }),
  kernelView,
);

export const kernelList = method('kernel.list', z.object({}), z.array(kernelView));
export const kernelShow = method('kernel.show', z.object({ reference }), kernelDetails);

/** Deletes a kernel, or just the name given when it has others. Refused while VMs use it, or while it is the default. */
export const kernelDelete = method(
  'kernel.delete',
  z.object({ reference }),
  z.object({ untagged: z.array(z.string()), deleted: z.nullable(z.string()) }),
);

/** Chooses the kernel of VMs that name none. */
export const kernelSetDefault = method('kernel.set-default', z.object({ reference }), kernelView);
