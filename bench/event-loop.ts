/** How long a Node process that runs keeps others waiting, asked of itself by its inspector. */
import { setTimeout as sleep } from 'node:timers/promises';

/** Where a process that gets SIGUSR1 lets itself be looked into (https://nodejs.org/api/process.html#signal-events). */
const inspector = 'http://127.0.0.1:9229/json';
const attempts = 50;

export interface LoopWatch {
  /** Ends it; milliseconds of the longest time in which the process did nothing else */
  longestMs(): Promise<number>;
}

/** Begins to watch the event loop of a process. */
export async function watchEventLoop(pid: number): Promise<LoopWatch> {
  process.kill(pid, 'SIGUSR1');
  const socket = await connect();
  let count = 0;
  const evaluate = async (expression: string): Promise<unknown> => {
    const id = ++count;
    const { promise, resolve } = Promise.withResolvers<unknown>();
    const listen = ({ data }: MessageEvent): void => {
      const answer = JSON.parse(String(data)) as { id?: number; result?: { result?: { value?: unknown } } };
      if (answer.id === id) resolve(answer.result?.result?.value);
    };
    socket.addEventListener('message', listen);
    socket.send(
      JSON.stringify({ id, method: 'Runtime.evaluate', params: { expression, returnByValue: true } }),
    );
    const value = await promise;
    socket.removeEventListener('message', listen);
    return value;
  };
  await evaluate(
    `globalThis.benchLoop = process.getBuiltinModule('node:perf_hooks').monitorEventLoopDelay({ resolution: 5 });
     benchLoop.enable()`,
  );
  return {
    longestMs: async () => {
      const nanoseconds = Number(await evaluate('benchLoop.disable(), benchLoop.max'));
      socket.close();
      if (!(nanoseconds > 0)) throw new Error('the event loop was not watched');
      return nanoseconds / 1e6;
    },
  };
}

async function connect(): Promise<WebSocket> {
  for (let attempt = 1; ; attempt++) {
    try {
      const [target] = (await (await fetch(inspector)).json()) as { webSocketDebuggerUrl: string }[];
      const socket = new WebSocket(target!.webSocketDebuggerUrl);
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      socket.addEventListener('open', () => resolve());
      socket.addEventListener('error', () => reject(new Error('the inspector does not answer')));
      await promise;
      return socket;
    } catch (error) {
      if (attempt === attempts) throw error;
      await sleep(100);
    }
  }
}
