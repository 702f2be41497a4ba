import path from 'node:path';

/** Where an image grows until it is complete. */
export function partialPath(options: {
  readonly workDirectory: string;
  readonly destination: string;
}): string {
  return path.join(options.workDirectory, `${path.basename(options.destination)}.partial`);
}
