import { statSync, watch, type FSWatcher } from 'node:fs';
import { BangerError, errnoOf } from '../errors.ts';

interface Watched {
  readonly watcher: FSWatcher;
  /** Tells a directory from another one that has taken its place */
  readonly identity: string;
}

/**
 * Watches a set of directories, not what is below them. Files that are replaced, as editors do, count as changed, and
 * a directory that is removed and made again is watched again at the next `update`.
 */
export class DirectoryWatcher {
  readonly #watched = new Map<string, Watched>();
  readonly #onChange: (directory: string, name: string | undefined) => void;

  constructor(onChange: (directory: string, name: string | undefined) => void) {
    this.#onChange = onChange;
  }

  /** Watches these directories and no others; those that are not there are passed over. */
  update(directories: ReadonlySet<string>): void {
    for (const [path, { watcher }] of this.#watched) {
      if (directories.has(path)) continue;
      watcher.close();
      this.#watched.delete(path);
    }
    for (const path of directories) this.#add(path);
  }

  close(): void {
    this.update(new Set());
  }

  #add(path: string): void {
    const identity = identityOf(path);
    const known = this.#watched.get(path);
    if (known?.identity === identity) return;
    known?.watcher.close();
    this.#watched.delete(path);
    if (identity === undefined) return;
    try {
      const watcher = watch(path, { persistent: false });
      watcher.on('change', (_, name) => this.#onChange(path, name?.toString()));
      watcher.on('error', () => this.#onChange(path, undefined));
      this.#watched.set(path, { watcher, identity });
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === 'ENOENT' || errno === 'ENOTDIR') return;
      if (errno !== 'ENOSPC' && errno !== 'EMFILE') throw error;
      throw new BangerError(
        'host_unsupported',
        `This host lets you watch no more than ${this.#watched.size} directories`,
        { hint: 'Allow more: sudo sysctl fs.inotify.max_user_watches=524288', cause: error },
      );
    }
  }
}

function identityOf(path: string): string | undefined {
  const stats = statSync(path, { throwIfNoEntry: false });
  return stats?.isDirectory() ? `${stats.dev}:${stats.ino}` : undefined;
}
