import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RpcClient } from '../../src/engine/rpc/client.ts';
import { connectOrStart, type ConnectOptions } from '../../src/engine/rpc/connect.ts';
import { engineStatus } from '../../src/engine/rpc/engine-methods.ts';
import type { Method, ParamsOf, ResultOf } from '../../src/engine/rpc/method.ts';
import { buildInfo } from '../../src/host/assets.ts';
import { resolveLayout, type Layout } from '../../src/state/layout.ts';
import { ended, openBanger, until, type Banger } from './banger.ts';
import { testBuild } from './test-build.ts';

/** An engine of a test build, which has failpoints, with a home of its own; and ways to break it. */
export interface CrashLab extends AsyncDisposable {
  readonly banger: Banger;
  readonly layout: Layout;
  /** Calls a method, on an engine that is started if need be */
  call<M extends Method>(method: M, params: ParamsOf<M>): Promise<ResultOf<M>>;
  /** Says what is to happen at which points, from now on: `POINT=FAILURE`, one a line; nothing without */
  arm(failpoints?: string): void;
  /** Points passed since `arm` was called last */
  trace(): string[];
  /** The engine's pid, once it has nothing to do; it is started if need be */
  quietEngine(): Promise<number>;
}

export function openCrashLab(): CrashLab {
  const banger = openBanger(undefined, testBuild);
  banger.configure('[vm]\nmemory = "128M"\ncpus = 1\n\n[vmm]\naccel = "tcg"\n');
  const points = join(banger.home, 'failpoints');
  banger.env['BANGER_FAILPOINTS'] = `@${points}`;
  const layout = resolveLayout({
    env: { BANGER_HOME: banger.home },
    home: banger.home,
    uid: process.getuid!(),
    temporaryDirectory: '/tmp',
  });
  const options: ConnectOptions = {
    socketPath: layout.engineSocket,
    startLock: layout.startLock,
    engineLog: layout.engineLog,
    engineNote: layout.engineNote,
    build: buildInfo(),
    engineArgv: [process.execPath, testBuild, '__engine'],
    engineEnv: banger.env,
  };

  async function withClient<T>(task: (client: RpcClient) => Promise<T>): Promise<T> {
    const client = await connectOrStart(options);
    try {
      return await task(client);
    } finally {
      client.close();
    }
  }

  const lab: CrashLab = {
    banger,
    layout,
    call: (method, params) => withClient((client) => client.call(method, params)),
    arm(failpoints = '') {
      writeFileSync(points, failpoints);
      rmSync(`${points}.trace`, { force: true });
    },
    trace: () =>
      existsSync(`${points}.trace`) ? readFileSync(`${points}.trace`, 'utf8').trim().split('\n') : [],
    quietEngine: () =>
      withClient(async (client) => {
        const isQuiet = async (): Promise<boolean> =>
          (await client.call(engineStatus, {})).operations.length === 0;
        await until('the engine has nothing to do', isQuiet);
        return (await client.call(engineStatus, {})).pid;
      }),
    async [Symbol.asyncDispose]() {
      lab.arm();
      await banger[Symbol.asyncDispose]();
    },
  };
  lab.arm();
  return lab;
}

/** Kills an engine from outside, as `kill -9` does. */
export async function killEngine(pid: number): Promise<void> {
  process.kill(pid, 'SIGKILL');
  await ended(pid);
}
