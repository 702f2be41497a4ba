import { chmod, rm } from 'node:fs/promises';
import { BangerError, errorText } from '../errors.ts';
import { ensurePrivateDirectory } from '../host/files.ts';
import type { Layout } from '../state/layout.ts';
import { migrations } from '../state/schema.ts';
import type { EngineContext } from './context.ts';
import type { IdleTimer } from './idle-timer.ts';
import { leavesFor } from './leaves-for.ts';
import type { Names } from './names/open-names.ts';
import type { OperationView } from './operations.ts';
import { routes } from './routes.ts';
import type { BuildIdentity } from './rpc/client.ts';
import { engineStatus, engineStop } from './rpc/engine-methods.ts';
import { protocolVersion } from './rpc/messages.ts';
import { route, serveRpc, type RpcServer } from './rpc/server.ts';
import { SocketWatch } from './socket-watch.ts';

/** Answers clients until closed, at a socket that is there for as long. */
export async function listen(
  context: EngineContext,
  input: { readonly layout: Layout; readonly build: BuildIdentity },
  control: { readonly stop: AbortController; readonly idle: IdleTimer; readonly names: Names },
): Promise<RpcServer> {
  const { layout, build } = input;
  const startedAt = new Date().toISOString();
  const leave = (reason: string): void => {
    // After the answer has gone out.
    setImmediate(() => control.stop.abort(reason));
  };
  // We hold the lock: a socket that is there belongs to an engine that is not any more.
  await rm(layout.engineSocket, { force: true });
  const server = await serveRpc({
    socketPath: layout.engineSocket,
    operations: context.operations,
    routes: [
      ...routes(context),
      ...control.names.routes,
      route(engineStatus, () => ({
        pid: process.pid,
        version: build.version,
        build: build.buildId,
        startedAt,
        stateDirectory: layout.stateDirectory,
        socket: layout.engineSocket,
        log: layout.engineLog,
        names: control.names.place(),
        runningVms: countRunning(context),
        operations: work(context).map(({ id, kind, subject }) => ({ id, kind, subject })),
        memoryBytes: process.memoryUsage.rss(),
      })),
      route(engineStop, ({ force }) => {
        if (!force) refuseWhileBusy(context);
        leave('asked to');
        return { pid: process.pid };
      }),
    ],
    hello: (clientBuild, schema) => {
      const engine = {
        build: build.buildId,
        schema: migrations.length,
        hasWork: work(context).length > 0,
      };
      const leaving =
        control.stop.signal.aborted ||
        leavesFor({ client: { build: clientBuild, schema }, engine, database: layout.database });
      if (leaving) leave('a client of another build came');
      return {
        protocol: protocolVersion,
        build: build.buildId,
        version: build.version,
        pid: process.pid,
        leaving,
      };
    },
    onError: (error, operation) =>
      context.log('error', `internal error: ${errorText(error)}`, {
        operation,
        stack: error instanceof Error ? error.stack : undefined,
      }),
    onConnections: (count) => control.idle.setClients(count),
  });
  await chmod(layout.engineSocket, 0o600);
  const watch = new SocketWatch(
    layout.engineSocket,
    async () => {
      ensurePrivateDirectory(layout.runtimeDirectory);
      await server.listenAgain();
    },
    context.log,
  );
  watch.start();
  return {
    ...server,
    close: () => {
      watch.close();
      server.close();
    },
  };
}

/** Operations under way, other than questions to the engine itself. */
function work(context: EngineContext): OperationView[] {
  return context.operations
    .list()
    .filter(({ state, kind }) => state === 'running' && !kind.startsWith('engine.'));
}

function refuseWhileBusy(context: EngineContext): void {
  const busy = work(context).map(({ kind, subject }) => (subject ? `${kind} ${subject}` : kind));
  if (busy.length === 0) return;
  throw new BangerError('busy', `The engine is busy with: ${busy.join(', ')}`, {
    hint: 'Wait until it is done, or cancel it with: banger engine stop --force',
  });
}

/** VMs that an engine is needed for. */
export function countRunning(context: EngineContext): number {
  const row = context.db
    .prepare<[], { count: number }>("SELECT count(*) AS count FROM vms WHERE state NOT IN ('stopped')")
    .get();
  return row?.count ?? 0;
}
