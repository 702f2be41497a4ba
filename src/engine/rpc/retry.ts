import { EngineGone, lostEngine, type RpcClient } from './client.ts';

/** Engines that leave one after the other are not followed for ever. */
const maxTries = 20;

/**
 * Asks an engine for something. One that hung up before it began with it (it was leaving, or was killed) is
 * replaced by the next one, and so is one that hung up on a question, which changes nothing.
 *
 * Returns undefined when `connect` finds no engine. The connection stays open when `ask` succeeds.
 */
export async function askUntilBegun<T>(
  connect: () => Promise<RpcClient | undefined>,
  isQuestion: boolean,
  ask: (client: RpcClient) => Promise<T>,
): Promise<T | undefined> {
  for (let tries = 1; ; tries++) {
    const client = await connect();
    if (!client) return undefined;
    try {
      return await ask(client);
    } catch (error) {
      client.close();
      if (!(error instanceof EngineGone)) throw error;
      const mayAskAgain = isQuestion || !error.hadBegun;
      if (!mayAskAgain || tries === maxTries) throw lostEngine();
    }
  }
}
