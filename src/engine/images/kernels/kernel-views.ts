import * as z from 'zod/mini';
import { findDefaultKernel, vmsOfKernel, type Kernel } from '../../../state/kernels.ts';
import type { ImageContext } from '../../context.ts';
import type { KernelDetails, KernelView } from '../../rpc/kernel-methods.ts';
import { guestPlatform } from '../registry/manifest.ts';
import { embeddedKernel } from '../../../host/drivers/firecracker/version.ts';
import { embeddedName } from './kernel-name.ts';

/** The part of the manifest of a build that tells of its kernel. */
const buildManifest = z.object({
  kernel: z.string(),
  arch: z.string(),
  files: z.array(z.object({ name: z.string(), unpackedBytes: z.number() })),
});

/** A kernel as clients see it; undefined is the embedded one. */
export async function toKernelView(context: ImageContext, kernel: Kernel | undefined): Promise<KernelView> {
  if (!kernel) return embeddedView(context);
  const { id, names, version, source, origin, format, imageBytes, modulesBytes, warnings, createdAt } =
    kernel;
  return {
    id,
    names: [...names],
    version,
    arch: guestPlatform(process.arch).architecture,
    source,
    origin,
    format,
    imageBytes,
    modulesBytes,
    isDefault: findDefaultKernel(context.db)?.id === id,
    warnings: [...warnings],
    usedBy: vmsOfKernel(context.db, id),
    createdAt,
  };
}

export async function toKernelDetails(
  context: ImageContext,
  kernel: Kernel | undefined,
): Promise<KernelDetails> {
  return {
    ...(await toKernelView(context, kernel)),
    modules: [...(kernel?.modules ?? [])],
    readsDeviceWords: (kernel ?? embeddedKernel).readsDeviceWords,
  };
}

async function embeddedView({ assets, db }: ImageContext): Promise<KernelView> {
  const pieces: Buffer[] = [];
  for await (const piece of assets.open('manifest.json') as AsyncIterable<Buffer>) pieces.push(piece);
  const manifest = buildManifest.parse(JSON.parse(Buffer.concat(pieces).toString('utf8')));
  const size = (name: string): number =>
    manifest.files.find((file) => file.name === name)?.unpackedBytes ?? 0;
  return {
    id: embeddedName,
    names: [embeddedName],
    version: manifest.kernel,
    arch: manifest.arch,
    source: 'embedded',
    format: 'elf',
    imageBytes: size('vmlinux.zst'),
    modulesBytes: size('modules.cpio'),
    isDefault: findDefaultKernel(db) === undefined,
    warnings: [],
    usedBy: vmsOfKernel(db, undefined),
  };
}
