import { abortError } from '../errors.ts';
import { callAfter } from '../host/long-timer.ts';
import type { EngineContext } from './context.ts';
import type { EngineEvent, EventBus } from './events.ts';
import { eventStream } from './rpc/event-methods.ts';
import type { EngineStream } from './rpc/frame-stream.ts';
import type { ParsedParams } from './rpc/method.ts';
import { streamRoute, type Route } from './rpc/server.ts';

/** Events that a slow reader may be behind. Of more, the oldest are lost, and it is told how many. */
const maxWaiting = 1000;

type EventParams = ParsedParams<typeof eventStream>;

/** What the engine tells of what happens. */
export function eventRoutes({ events }: Pick<EngineContext, 'events'>): Route[] {
  return [
    streamRoute(eventStream, async (params, { signal }, stream) => {
      await sendEvents(events, params, { signal, stream });
      return { code: 0 };
    }),
  ];
}

/** Sends events, remembered ones first, until the time is up. Rejects when the signal fires. */
export async function sendEvents(
  events: EventBus,
  params: EventParams,
  { signal, stream }: { readonly signal: AbortSignal; readonly stream: Pick<EngineStream, 'send'> },
): Promise<void> {
  const { until = Number.POSITIVE_INFINITY } = params;
  let waiting: EngineEvent[] = [];
  let lost = 0;
  let news = Promise.withResolvers<void>();
  const wake = (): void => news.resolve();
  const take = (event: EngineEvent): void => {
    if (!matches(event, params) || Date.parse(event.time) > until) return;
    waiting.push(event);
    if (waiting.length > maxWaiting) {
      waiting.shift();
      lost++;
    }
    wake();
  };
  if (params.since !== undefined) events.since(params.since).forEach(take);
  const unsubscribe = events.subscribe(take);
  signal.addEventListener('abort', wake, { once: true });
  const leftMs = until - Date.now();
  // The timer's word counts: it may fire a little before the clock on the wall says so.
  let isOver = leftMs <= 0;
  const end = (): void => {
    isOver = true;
    wake();
  };
  const takeBack = callAfter(leftMs, end);
  try {
    for (;;) {
      if (signal.aborted) throw abortError(signal);
      const isLast = isOver;
      const batch: EngineEvent[] = [...lossOf(lost), ...waiting];
      waiting = [];
      lost = 0;
      if (batch.length > 0)
        await stream.send('stdout', batch.map((event) => `${JSON.stringify(event)}\n`).join(''));
      if (isLast) return;
      if (waiting.length === 0) await news.promise;
      news = Promise.withResolvers();
    }
  } finally {
    unsubscribe();
    takeBack();
    signal.removeEventListener('abort', wake);
  }
}

function lossOf(lost: number): EngineEvent[] {
  return lost === 0
    ? []
    : [{ time: new Date().toISOString(), type: 'engine', action: 'lost', id: 'events', lost }];
}

function matches(event: EngineEvent, { types, actions, subjects }: EventParams): boolean {
  const isAbout = (subject: string): boolean => event.name === subject || event.id.startsWith(subject);
  return (
    (types?.includes(event.type) ?? true) &&
    (actions?.includes(event.action) ?? true) &&
    (subjects?.some(isAbout) ?? true)
  );
}
