import { BangerError } from '../errors.ts';
import type { EngineContext } from './context.ts';
import type { NewEvent } from './events.ts';
import type { Operation, OperationView, Progress } from './operations.ts';
import { operationCancel, operationList, operationShow, operationWatch } from './rpc/operation-methods.ts';
import { route, type Route } from './rpc/server.ts';

/** What the engine answers about operations. */
export function operationRoutes({ operations }: Pick<EngineContext, 'operations'>): Route[] {
  return [
    route(operationList, () => operations.list()),
    route(operationShow, (params) => operations.get(params.operation)),
    route(operationWatch, (params, watcher) =>
      operations.watch(operations.get(params.operation).id, watcher.signal, relayTo(watcher)),
    ),
    route(operationCancel, (params, watcher) => {
      const { id, kind, state } = operations.get(params.operation);
      if (!operations.cancel(id)) {
        throw new BangerError('invalid_state', `Operation ${id} (${kind}) is ${state} already`, {
          hint: `See how it went with: banger operation show ${id}`,
        });
      }
      return operations.watch(id, watcher.signal, relayTo(watcher));
    }),
  ];
}

/** What is told when an operation starts or has ended. */
export function operationEvent(view: OperationView): NewEvent {
  return {
    type: 'operation',
    action: view.state === 'running' ? 'started' : view.state,
    id: view.id,
    name: view.subject,
    kind: view.kind,
    seconds: view.state === 'running' ? undefined : view.seconds,
    error: view.error?.message,
  };
}

/** Shows one operation's progress as another's. */
function relayTo(watcher: Operation): (progress: Progress) => void {
  let last: string | undefined;
  return ({ stage, ...rest }) => {
    if (stage !== last) watcher.enter(stage);
    last = stage;
    if (Object.values(rest).some((value) => value !== undefined)) watcher.progress(rest);
  };
}
