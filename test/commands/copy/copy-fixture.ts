import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import type { Cli } from '../../../src/commands/cli.ts';
import { carry, type TransferEnds } from '../../../src/commands/transfer.ts';
import { copyIn, copyOut, lookAtPath } from '../../../src/engine/copy/guest-files.ts';
import { OperationRegistry } from '../../../src/engine/operations.ts';
import { RpcClient } from '../../../src/engine/rpc/client.ts';
import type { EngineStream } from '../../../src/engine/rpc/frame-stream.ts';
import { protocolVersion } from '../../../src/engine/rpc/messages.ts';
import type { Method, ParamsOf, StreamMethod } from '../../../src/engine/rpc/method.ts';
import { route, serveRpc, streamRoute } from '../../../src/engine/rpc/server.ts';
import { vmCopyIn, vmCopyOut, vmPath } from '../../../src/engine/rpc/vm-copy-methods.ts';
import type { Vm } from '../../../src/state/vms.ts';
import { createFakeGuest } from '../../support/fake-guest.ts';
import { runProgram } from '../../support/run-program.ts';

/** What a run of `banger vm cp` printed. */
export interface Copied {
  readonly stdout: Buffer;
  readonly talk: string;
}

export interface CopyFixture extends AsyncDisposable {
  /** The user's directory */
  readonly here: string;
  /** Holds files of the guest; its paths are those of this host */
  readonly there: string;
  /** Runs `banger vm cp WORDS…` in `here`; guest paths are given as `web:` and a path below `there` */
  cp(words: readonly string[], input?: Buffer): Promise<Copied>;
  /** From now on the guest sends this in place of what it was asked for */
  answer(tar: Buffer | Readable): void;
}

export const hasBusybox = spawnSync('busybox').status === 0;
const build = { version: '1.0.0', buildId: 'build-a' };

/** The whole way from the command to a guest's tar and back: client, socket, engine, busybox where there is one. */
export async function openCopyFixture(): Promise<CopyFixture> {
  const root = realpathSync(mkdtempSync(join(tmpdir(), 'banger-cp-')));
  const [here, there] = [join(root, 'here'), join(root, 'there')];
  for (const directory of [here, there]) mkdirSync(directory);
  const { guest } = createFakeGuest({ toolbox: hasBusybox ? ['busybox'] : undefined });
  const context = { guest: async () => guest };
  const vm = { name: 'web', state: 'running' } as Vm;
  let answer: Buffer | Readable | undefined;
  const server = await serveRpc({
    socketPath: join(root, 'socket'),
    operations: new OperationRegistry(),
    hello: () => ({ protocol: protocolVersion, build: build.buildId, version: '1', pid: 1, leaving: false }),
    onError: () => undefined,
    onConnections: () => undefined,
    routes: [
      route(vmPath, (params, operation) => lookAtPath(context, { ...params, vm }, operation)),
      streamRoute(vmCopyOut, (params, operation, stream) =>
        answer
          ? send(answer, stream, operation.signal)
          : copyOut(context, { ...params, vm }, { operation, stream }),
      ),
      streamRoute(vmCopyIn, (params, operation, stream) =>
        copyIn(context, { ...params, vm }, { operation, stream }),
      ),
    ],
  });
  return {
    here,
    there,
    answer: (tar) => {
      answer = tar;
    },
    cp: async (words, input) => {
      const stdout: Buffer[] = [];
      const talk: string[] = [];
      const cli = {
        json: false,
        cwd: here,
        printsToTerminal: false,
        call: async <M extends Method>(method: M, params: ParamsOf<M>) => {
          const client = await RpcClient.dial(join(root, 'socket'), build);
          return client.call(method, params).finally(() => client.close());
        },
        transfer: async <M extends StreamMethod>(method: M, params: ParamsOf<M>, ends: TransferEnds) => {
          const client = await RpcClient.dial(join(root, 'socket'), build);
          return carry(await client.stream(method, params), ends).finally(() => client.close());
        },
        standardInput: () => ({ stream: Readable.from(input ? [input] : []), isTerminal: false }),
        write: async (bytes: Buffer) => void stdout.push(Buffer.from(bytes)),
        print: () => undefined,
        say: (line: string) => void talk.push(line),
      } as unknown as Cli;
      await runProgram(cli, ['vm', 'cp', ...words.map((word) => word.replace(/^web:/, `web:${there}/`))]);
      return { stdout: Buffer.concat(stdout), talk: talk.join('\n') };
    },
    async [Symbol.asyncDispose]() {
      server.close();
      await server.hangUp();
      rmSync(root, { recursive: true, force: true });
    },
  };
}

async function send(
  tar: Buffer | Readable,
  stream: EngineStream,
  signal: AbortSignal,
): Promise<{ warnings: string[] }> {
  for await (const chunk of Buffer.isBuffer(tar) ? [tar] : tar) {
    signal.throwIfAborted();
    await stream.send('stdout', chunk as Buffer);
    // Lets the socket's own events happen, such as its end.
    await setImmediate();
  }
  return { warnings: [] };
}
