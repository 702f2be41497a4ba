import { setImmediate } from 'node:timers/promises';

/**
 * The parts of undici that take longest to load, and what of Node they are built on. All at once they would keep the
 * engine from answering anybody for 100 ms.
 */
const parts: readonly (() => unknown)[] = [
  () => process.getBuiltinModule('node:http'),
  () => process.getBuiltinModule('node:http2'),
  // @ts-expect-error: it has no types, and is not used by itself
  () => import('undici/lib/core/util.js'),
  // @ts-expect-error: it has no types, and is not used by itself
  () => import('undici/lib/dispatcher/client.js'),
  // @ts-expect-error: it has no types, and is not used by itself
  () => import('undici/lib/dispatcher/proxy-agent.js'),
  // @ts-expect-error: it has no types, and is not used by itself
  () => import('undici/lib/web/fetch/index.js'),
];

const importUndici = () => import('undici');
type Undici = Awaited<ReturnType<typeof importUndici>>;

let loading: Promise<Undici> | undefined;

/** Loads undici a part at a time; others get their turn in between. */
export function loadUndici(): Promise<Undici> {
  loading ??= loadInParts();
  return loading;
}

async function loadInParts(): Promise<Undici> {
  for (const load of parts) {
    await load();
    await setImmediate();
  }
  return importUndici();
}
