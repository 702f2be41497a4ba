import { setImmediate } from 'node:timers/promises';
import { admitOptimizer } from '../../optimizer.ts';
import type { importWhole as ImportWhole } from './undici-slices.ts';

type Undici = Awaited<ReturnType<typeof ImportWhole>>;

let loading: Promise<Undici> | undefined;

/**
 * Loads undici a slice at a time; others get their turn in between. All at once it would keep the engine from
 * answering anybody for 100 ms.
 */
export function loadUndici(): Promise<Undici> {
  loading ??= loadInSlices();
  return loading;
}

async function loadInSlices(): Promise<Undici> {
  admitOptimizer();
  const { slices, importWhole } = await import('./undici-slices.ts');
  for (const load of slices) {
    await load();
    await setImmediate();
  }
  return importWhole();
}
