import type * as Undici from 'undici';

/** What of undici we use. */
export type UndiciParts = Pick<typeof Undici, 'Agent' | 'buildConnector' | 'ProxyAgent'>;

/**
 * What of undici takes longest to load. It is a script of its own in the executable: an engine that never asks a
 * registry for anything has none of it in memory.
 *
 * Undici's own entry would load caches, mocks, `fetch` and WebSockets as well: two thirds of it, of which we use
 * nothing.
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
];

/** Puts the parts together as undici's own entry does. */
export async function importParts(): Promise<UndiciParts> {
  const [dispatcher, api, agent, connector, proxyAgent] = (await Promise.all([
    // @ts-expect-error: its types are those of the whole
    import('undici/lib/dispatcher/dispatcher.js'),
    // @ts-expect-error: its types are those of the whole
    import('undici/lib/api/index.js'),
    // @ts-expect-error: its types are those of the whole
    import('undici/lib/dispatcher/agent.js'),
    // @ts-expect-error: its types are those of the whole
    import('undici/lib/core/connect.js'),
    // @ts-expect-error: its types are those of the whole
    import('undici/lib/dispatcher/proxy-agent.js'),
  ])) as [
    Default<typeof Undici.Dispatcher>,
    // The ways to ask; a proxy is asked for a connection with another one than a registry for a blob.
    Default<object>,
    Default<typeof Undici.Agent>,
    Default<typeof Undici.buildConnector>,
    Default<typeof Undici.ProxyAgent>,
  ];
  Object.assign(dispatcher.default.prototype, api.default);
  return { Agent: agent.default, buildConnector: connector.default, ProxyAgent: proxyAgent.default };
}

interface Default<T> {
  readonly default: T;
}
