import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { ImageContext } from '../../src/engine/context.ts';
import { importKernel } from '../../src/engine/images/kernels/import-kernel.ts';
import type { Operation } from '../../src/engine/operations.ts';
import { type Kernel } from '../../src/state/kernels.ts';
import { imageContext, recordedOperation } from './image-context.ts';
import { tinyKernel } from './kernels.ts';

export function world(): ImageContext & {
  readonly directory: string;
  file(name: string, bytes: Buffer): string;
} {
  const context = imageContext();
  onTestFinished(() => context[Symbol.dispose]());
  const file = (name: string, bytes: Buffer): string => {
    const path = join(context.directory, name);
    writeFileSync(path, bytes);
    return path;
  };
  return Object.assign(context, { file });
}

export function importOf(context: ReturnType<typeof world>, operation: Operation): Promise<Kernel> {
  const path = context.file('vmlinux', tinyKernel());
  return importKernel(
    context,
    { path, modulesPath: undefined, name: 'x', source: 'import', origin: path },
    operation,
  );
}

export function load(
  context: ImageContext,
  path: string,
  more: { name?: string; modulesPath?: string } = {},
): Promise<Kernel> {
  const request = {
    path,
    modulesPath: more.modulesPath,
    name: more.name,
    source: 'import' as const,
    origin: path,
  };
  return importKernel(context, request, recordedOperation());
}

/** What is on the host of kernels, and what is left of attempts. */
export function remains({ layout }: ImageContext): string[] {
  const names = (directory: string): string[] => (existsSync(directory) ? readdirSync(directory) : []);
  return [...names(layout.kernelsDirectory), ...names(layout.imageStagingDirectory)];
}
