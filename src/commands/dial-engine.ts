import type { RpcClient } from '../engine/rpc/client.ts';
import type { ConnectOptions } from '../engine/rpc/connect.ts';

// Sockets and message formats cost milliseconds, and several commands need no engine: all of it is loaded late.

/** How a command comes to its engine; undefined when there is none. */
export type Dial = () => Promise<RpcClient | undefined>;

/** An engine of our build, which is started when there is none. */
export function dialOrStart(options: ConnectOptions): Dial {
  return async () => (await import('../engine/rpc/connect.ts')).connectOrStart(options);
}

/**
 * The engine that runs, of whatever build and wherever it listens; one that leaves because it is of another counts as
 * gone. Throws `busy` for one that cannot be reached.
 */
export function dialIfRunning(options: ConnectOptions): Dial {
  return async () => {
    const { greet } = await import('../engine/rpc/connect.ts');
    const { connectAnywhere } = await import('../engine/rpc/elsewhere.ts');
    const client = await connectAnywhere(options);
    if (!client || (await greet(client))) return client;
    client.close();
    return undefined;
  };
}

/** Asks an engine, and the next one when that has left before it began. Undefined when there is none. */
export async function askEngine<T>(
  dial: Dial,
  { isQuestion = false }: { readonly isQuestion?: boolean },
  ask: (client: RpcClient) => Promise<T>,
): Promise<T | undefined> {
  const { askUntilBegun } = await import('../engine/rpc/retry.ts');
  return askUntilBegun(dial, isQuestion, ask);
}
