/**
 * All of undici, and what of it takes longest to load. It is a script of its own in the executable: an engine that
 * never asks a registry for anything has none of its megabyte in memory.
 */
export const slices: readonly (() => unknown)[] = [
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

export const importWhole = () => import('undici');
