import { setTimeout as sleep } from 'node:timers/promises';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { abortError, BangerError } from '../../errors.ts';
import { DirectoryWatcher } from '../../host/watch-directories.ts';
import type { EngineContext, WorkspaceContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import type { EngineStream } from '../rpc/frame-stream.ts';
import type { ParsedParams } from '../rpc/method.ts';
import type { WatchLine, workspaceWatch } from '../rpc/workspace-methods.ts';
import { inspectTree, type WorkingTree } from './inspect-tree.ts';
import { parentsOf } from './plan-update.ts';
import { prepareWorkspace, type EnsureVm } from './prepare-workspace.ts';
import { withScratch } from './scratch.ts';
import { describeIndex } from './sent-files.ts';

type WatchContext = WorkspaceContext & Pick<EngineContext, 'events'>;
type WatchParams = ParsedParams<typeof workspaceWatch>;

/** Nothing is sent until a tree has been quiet for this long: a checkout or a build changes many files. */
const quietMs = 200;
/** But not later than this after the first change. */
const patienceMs = 2_000;

/**
 * Sends a working tree, and again whenever it changes, until the signal fires or the VM stops, which rejects. Tells of
 * every sending, and of those that did not work, as lines of JSON; what can be put right by changing the tree does not
 * end it.
 */
export async function watchWorkspace(
  context: WatchContext,
  params: WatchParams,
  watch: {
    readonly operation: Operation;
    readonly stream: Pick<EngineStream, 'send'>;
    readonly ensureVm: EnsureVm;
  },
): Promise<void> {
  const { operation, stream, ensureVm } = watch;
  const changes = new Changes(operation.signal);
  const watcher = new DirectoryWatcher((directory, name) => changes.noteIn(directory, name));
  const say = (line: WatchLine): Promise<void> => stream.send('stdout', `${JSON.stringify(line)}\n`);
  let vm = params.vm;
  let seen: string | undefined;
  let unsubscribe: (() => void) | undefined;
  try {
    for (;;) {
      changes.reset();
      // Watched before it is read: what changes in between is seen by one or the other.
      const now = await look(context, params, { watcher, signal: operation.signal });
      if (now !== seen) {
        try {
          const policy = params.overwrite ? 'overwrite' : 'keep';
          const result = await prepareWorkspace(
            context,
            { ...params, vm, policy, fullHistory: false, readonly: false },
            operation,
            ensureVm,
          );
          if (vm === undefined || !unsubscribe) {
            vm = result.vm;
            unsubscribe ??= endsWith(context, result.vm, changes);
          }
          seen = now;
          await say({ kind: 'sent', ...result });
        } catch (error) {
          if (!(error instanceof BangerError) || !canGoOn(error) || seen === undefined) throw error;
          await say({ kind: 'failed', message: error.message, hint: error.hint });
          if (error.code === 'busy') changes.note();
        }
      }
      operation.enter('Watching');
      await changes.settled();
    }
  } finally {
    unsubscribe?.();
    watcher.close();
  }
}

/** Files that are being written, and commits of the guest, are not for ever; a VM that is gone is. */
function canGoOn({ code, message }: BangerError): boolean {
  return code === 'busy' || (code === 'invalid_state' && /would be lost/.test(message));
}

/** Ends the watch when the VM stops or goes. */
function endsWith({ events }: WatchContext, name: string, changes: Changes): () => void {
  return events.subscribe((event) => {
    if (event.type !== 'vm' || event.name !== name) return;
    if (event.action !== 'stopped' && event.action !== 'deleted') return;
    changes.fail(
      new BangerError('invalid_state', `VM "${name}" was ${event.action}`, {
        hint: event.action === 'stopped' ? `Start it with: banger vm start ${name}` : undefined,
      }),
    );
  });
}

/** Reads the tree, watches where it can change, and tells one state of it from the next. */
async function look(
  { exec }: WatchContext,
  { path, includeUntracked, include }: WatchParams,
  { watcher, signal }: { readonly watcher: DirectoryWatcher; readonly signal: AbortSignal },
): Promise<string> {
  return withScratch(async (scratch) => {
    const inspect = async (name: string): Promise<WorkingTree> => {
      const own = join(scratch, name);
      await mkdir(own, { mode: 0o700 });
      return inspectTree(exec, { path, scratch: own, includeUntracked, include, signal });
    };
    watcher.update(directoriesOf(await inspect('before')));
    const tree = await inspect('watched');
    return describe(tree);
  });
}

/** Tells one state of a tree from the next; its submodules are part of it. */
async function describe(tree: WorkingTree): Promise<string> {
  const { head, branch } = tree.repository;
  const lines = [head, branch, await describeIndex(tree), ...tree.state.tips];
  for (const { path, bytes } of tree.state.files) lines.push(`${path}\0${bytes.toString('latin1')}`);
  for (const file of tree.files) lines.push(`${file.path}\0${file.stamp}`);
  for (const { path, tree: inner } of tree.submodules) {
    lines.push(`${path}\0${inner ? await describe(inner) : ''}`);
  }
  return lines.join('\n');
}

/** Directories of files that travel, those above them, and what git changes when it commits, stages or switches. */
function directoriesOf({ repository, files, entries, submodules }: WorkingTree): Set<string> {
  const { topLevel, paths } = repository;
  const paths_ = [...files.map((file) => file.path), ...entries.map((entry) => entry.path)];
  const inTree = new Set(paths_.flatMap(parentsOf));
  const names = [...inTree].map((path) => join(topLevel, Buffer.from(path, 'latin1').toString('utf8')));
  const inner = submodules.flatMap(({ tree }) => (tree ? [...directoriesOf(tree)] : []));
  return new Set([topLevel, ...names, dirname(paths.index), ...inner]);
}

/** What has changed, and whether it is over. */
class Changes {
  readonly #signal: AbortSignal;
  #first: number | undefined;
  #last = 0;
  #failure: Error | undefined;
  #news = Promise.withResolvers<void>();

  constructor(signal: AbortSignal) {
    this.#signal = signal;
    signal.addEventListener('abort', () => this.#news.resolve(), { once: true });
  }

  reset(): void {
    this.#first = undefined;
    if (!this.#signal.aborted && !this.#failure) this.#news = Promise.withResolvers();
  }

  /** Of git's own files only some tell of a change: its locks come and go whenever it is asked something. */
  noteIn(directory: string, name: string | undefined): void {
    if (
      /\/\.git(?:\/|$)/.test(directory) &&
      name !== undefined &&
      !/^(?:index|HEAD|packed-refs|[A-Z]+_HEAD)$/.test(name)
    )
      return;
    this.note();
  }

  note(): void {
    this.#last = performance.now();
    this.#first ??= this.#last;
    this.#news.resolve();
  }

  fail(error: Error): void {
    this.#failure ??= error;
    this.#news.resolve();
  }

  /** Waits for a change, and then until there have been none for a while. */
  async settled(): Promise<void> {
    await this.#news.promise;
    for (;;) {
      if (this.#signal.aborted) throw abortError(this.#signal);
      if (this.#failure) throw this.#failure;
      const now = performance.now();
      const waitMs = Math.min(this.#last + quietMs - now, this.#first! + patienceMs - now);
      if (waitMs <= 0) return;
      await sleep(waitMs, undefined, { signal: this.#signal }).catch(() => undefined);
    }
  }
}
