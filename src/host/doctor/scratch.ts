import { readlinkSync, rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { commandLine, findProcessesByArguments, identifyProcess, signalProcess } from '../process.ts';

/** Names of the VMMs that diagnostics start, as `-name` or `--id` on their command lines shows them. */
const vmmNames = ['banger-probe', 'banger-doctor'];
/** Signals that would end us without a chance to tidy up. */
const endings = ['SIGTERM', 'SIGHUP'] as const;

/**
 * A directory for what diagnostics need for a moment, made when first asked for.
 *
 * Nothing of it stays, even when the user gives up in the middle: VMMs run in sessions of their own, and one
 * whose guest hangs would otherwise run for ever.
 */
export class Scratch {
  readonly #parent: string;
  #directory: Promise<string> | undefined;
  #path: string | undefined;

  constructor(parent: string) {
    this.#parent = parent;
  }

  directory(): Promise<string> {
    this.#directory ??= this.#make();
    return this.#directory;
  }

  /** Removes the directory. None there counts as removed. */
  async remove(): Promise<void> {
    process.off('exit', this.#removeNow);
    for (const signal of endings) process.off(signal, this.#removeAndEnd);
    if (this.#path !== undefined) await rm(this.#path, { recursive: true, force: true });
  }

  async #make(): Promise<string> {
    process.once('exit', this.#removeNow);
    for (const signal of endings) process.once(signal, this.#removeAndEnd);
    this.#path = await mkdtemp(join(this.#parent, 'banger-doctor-'));
    return this.#path;
  }

  readonly #removeNow = (): void => {
    const path = this.#path;
    if (path === undefined) return;
    const options = ['-name', '--id'].flatMap((option) => vmmNames.map((name) => [option, name]));
    for (const pid of options.flatMap(findProcessesByArguments)) {
      const identity = identifyProcess(pid);
      // Only ours: an engine may be probing at the same time.
      const isOurs = commandLine(pid)?.some((word) => word.includes(path)) || outputOf(pid).startsWith(path);
      if (identity && isOurs) signalProcess(identity, 'SIGKILL');
    }
    rmSync(path, { recursive: true, force: true });
  };

  readonly #removeAndEnd = (signal: NodeJS.Signals): void => {
    this.#removeNow();
    // The handler is gone by now, so this one ends us the way the sender meant.
    process.kill(process.pid, signal);
  };
}

/** A jailed VMM sees other paths than we do, and still writes its guest's console to ours. */
function outputOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/fd/1`);
  } catch {
    return '';
  }
}
