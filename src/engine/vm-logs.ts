import { statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { abortError, BangerError } from '../errors.ts';
import { BoundedLog } from '../host/bounded-log.ts';
import { standardErrorPath, vmmLogOptions } from '../host/drivers/vmm-process.ts';
import { watchOnce } from '../host/watch-file.ts';
import { vmPaths } from '../state/layout.ts';
import { findVm, type Vm } from '../state/vms.ts';
import type { EngineContext } from './context.ts';
import { linesAbout } from './engine-lines.ts';
import type { EngineStream } from './rpc/frame-stream.ts';
import type { ParsedParams } from './rpc/method.ts';
import type { vmLogs } from './rpc/vm-log-methods.ts';

type LogRequest = Omit<ParsedParams<typeof vmLogs>, 'vm'>;

interface Reader {
  readonly signal: AbortSignal;
  readonly stream: Pick<EngineStream, 'send'>;
}

/** Sends one of a VM's logs; with `follow` until the VM stops or the signal fires, which rejects. */
export async function sendVmLog(
  context: EngineContext,
  { vm, ...request }: LogRequest & { readonly vm: Vm },
  reader: Reader,
): Promise<void> {
  if (request.since !== undefined && request.source !== 'engine') {
    throw new BangerError('invalid_argument', `The lines of a ${request.source} log carry no times`, {
      hint: `Ask for the last lines: banger vm logs ${vm.name} --tail 100`,
    });
  }
  if (request.source === 'engine') return sendEngineLines(context, { vm, ...request }, reader);
  const paths = vmPaths(context.layout, vm.id);
  const send = (content: Buffer): Promise<void> => reader.stream.send('stdout', content);
  const isConsole = request.source === 'console';
  const path = isConsole ? paths.consoleLog : paths.vmmLog;
  const options = isConsole ? undefined : vmmLogOptions;
  // Before the log that the VMM writes itself; the last lines are that one's, if there is any.
  const beside = new BoundedLog(standardErrorPath(path));
  const isWanted = request.tail === undefined || !statSync(path, { throwIfNoEntry: false })?.size;
  if (!isConsole && isWanted) await sendNow(beside, request.tail, send);
  const isOn = request.follow && (await hasStarted(context, vm.id, reader.signal));
  if (!isOn) return sendNow(new BoundedLog(path, options), request.tail, send);
  const log = context.logs.shared(path, options);
  const from = firstOf(log, request.tail);
  await follow(context, { vm, log, from, send, signal: reader.signal });
}

type Send = (content: Buffer) => Promise<void>;

/** To where it ends now: a guest that never falls silent would never let us finish. */
async function sendNow(log: BoundedLog, tail: number | undefined, send: Send): Promise<void> {
  const { end } = log.range;
  await sendPart(log, { from: firstOf(log, tail), to: end }, send);
}

/** Where to begin, for as many lines as are asked for. */
function firstOf(log: BoundedLog, tail: number | undefined): number {
  return tail === undefined ? log.range.start : log.lastLines(tail);
}

/** A VM that is being started gets a new log: false when it does not run and will not. */
async function hasStarted(context: EngineContext, id: string, signal: AbortSignal): Promise<boolean> {
  for (;;) {
    if (context.handles.get(id)) return true;
    const state = findVm(context.db, id)?.state;
    if (state !== 'creating' && state !== 'starting') return false;
    await sleep(startPollMs, undefined, { signal });
  }
}

const startPollMs = 100;

interface Following {
  readonly vm: Vm;
  readonly log: BoundedLog;
  readonly from: number;
  readonly signal: AbortSignal;
  readonly send: Send;
  /** How long after the VM has stopped there may be more */
  readonly settleMs?: number;
}

async function follow(context: EngineContext, { vm, log, signal, send, ...how }: Following): Promise<void> {
  let position = how.from;
  /** Where the log ended when the VM stopped: what comes then is another start's. */
  let end = context.handles.get(vm.id) ? Number.POSITIVE_INFINITY : log.range.end;
  let news = Promise.withResolvers<void>();
  const wake = (): void => news.resolve();
  const stop = (): void => {
    end = Math.min(end, log.range.end);
    wake();
  };
  let settling: NodeJS.Timeout | undefined;
  const unsubscribe = context.events.subscribe(({ type, id, action }) => {
    if (type !== 'vm' || id !== vm.id || (action !== 'stopped' && action !== 'deleted')) return;
    if (how.settleMs === undefined) stop();
    else settling ??= setTimeout(stop, how.settleMs);
  });
  signal.addEventListener('abort', wake, { once: true });
  try {
    for (;;) {
      if (signal.aborted) throw abortError(signal);
      news = Promise.withResolvers();
      // Listens before it reads, so that nothing is missed in between.
      const stopWatching = watchOnce(log.path, wake);
      try {
        const next = await sendPart(log, { from: position, to: Math.min(end, log.range.end) }, send);
        const isNew = next !== position;
        position = next;
        if (isNew) continue;
        if (position >= end || !stopWatching) return;
        await news.promise;
      } finally {
        stopWatching?.();
      }
    }
  } finally {
    unsubscribe();
    clearTimeout(settling);
    signal.removeEventListener('abort', wake);
  }
}

/** Returns where to go on. */
async function sendPart(
  log: BoundedLog,
  part: { readonly from: number; readonly to: number },
  send: Send,
): Promise<number> {
  let position = part.from;
  while (position < part.to) {
    const { content, next } = log.read(position);
    if (content.length === 0) break;
    await send(content.subarray(0, content.length - Math.max(0, next - part.to)));
    position = Math.min(next, part.to);
  }
  return position;
}

/** The engine writes down why a VM ended after it has told everybody that it did. */
const engineSettleMs = 250;

async function sendEngineLines(
  context: EngineContext,
  { vm, tail, since = 0, ...request }: LogRequest & { readonly vm: Vm },
  { signal, stream }: Reader,
): Promise<void> {
  const log = context.logs.shared(context.layout.engineLog);
  const filter = linesAbout(vm.id, since);
  const { start, end } = log.range;
  let lines: string[] = [];
  const position = await sendPart(log, { from: start, to: end }, async (content) => {
    lines.push(...filter(content));
    if (tail !== undefined) lines = tail === 0 ? [] : lines.slice(-tail);
    // Others want answers meanwhile.
    await sleep(0);
  });
  if (lines.length > 0) await stream.send('stdout', lines.join(''));
  if (!request.follow || !context.handles.get(vm.id)) return;
  await follow(context, {
    vm,
    log,
    from: position,
    signal,
    settleMs: engineSettleMs,
    send: async (content) => {
      const more = filter(content);
      if (more.length > 0) await stream.send('stdout', more.join(''));
    },
  });
}
