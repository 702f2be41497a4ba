import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { bundleSource } from '../../scripts/sea/bundle.ts';

/** A build with failpoints, run by Node. System tests find it made (`setup`). */
export const testBuild = resolve('.cache/test/banger.cjs');

/** Called by vitest before system tests. */
export async function setup(): Promise<void> {
  mkdirSync(dirname(testBuild), { recursive: true });
  const partial = `${testBuild}.${process.pid}`;
  writeFileSync(partial, await bundleSource());
  renameSync(partial, testBuild);
}
