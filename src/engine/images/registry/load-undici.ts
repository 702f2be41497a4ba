import { setImmediate } from 'node:timers/promises';
import { admitOptimizer } from '../../optimizer.ts';
import type { UndiciParts } from './undici-slices.ts';

let loading: Promise<UndiciParts> | undefined;

/**
 * Loads undici a slice at a time; others get their turn in between. All at once it would keep the engine from
 * answering anybody for 100 ms.
 */
export function loadUndici(): Promise<UndiciParts> {
  loading ??= loadInSlices();
  return loading;
}

async function loadInSlices(): Promise<UndiciParts> {
  admitOptimizer();
  const { slices, importParts } = await import('./undici-slices.ts');
  for (const load of slices) {
    await load();
    await setImmediate();
  }
  return importParts();
}
