import { statSync, watch, type FSWatcher } from 'node:fs';
import { BangerError, errnoOf } from '../errors.ts';

interface Watched {
  readonly watcher: FSWatcher;
  /** Tells a directory from another one that has taken its place */
  readonly identity: string;
}

/**
 * Something happened in a directory. `name` is the file's, absent when the system does not say; `isContentOnly`: the
 * file was there before and is there still.
 */
export type OnDirectoryChange = (directory: string, name: string | undefined, isContentOnly: boolean) => void;

/**
 * Watches a set of directories, not what is below them. Files that are replaced, as editors do, count as changed, and
 * a directory that is removed and made again is watched again at the next `update`. All names are bytes, one per
 * character (latin1), since not all of them are UTF-8.
 */
export class DirectoryWatcher {
  readonly #watched = new Map<string, Watched>();
  readonly #onChange: OnDirectoryChange;

  constructor(onChange: OnDirectoryChange) {
    this.#onChange = onChange;
  }

  /**
   * Watches these directories and no others; those that are not there are passed over. Tells whether any of them was
   * not watched before: what happened in it until now, nobody was told.
   */
  update(directories: ReadonlySet<string>): boolean {
    for (const [path, { watcher }] of this.#watched) {
      if (directories.has(path)) continue;
      watcher.close();
      this.#watched.delete(path);
    }
    let hasNew = false;
    for (const path of directories) hasNew = this.#add(path) || hasNew;
    return hasNew;
  }

  close(): void {
    this.update(new Set());
  }

  #add(path: string): boolean {
    const identity = identityOf(path);
    const known = this.#watched.get(path);
    if (known?.identity === identity) return false;
    known?.watcher.close();
    this.#watched.delete(path);
    if (identity === undefined) return false;
    try {
      const bytes = Buffer.from(path, 'latin1');
      const watcher = watch(bytes, { persistent: false, encoding: 'buffer' }, (kind, name) => {
        this.#onChange(path, name?.toString('latin1'), kind === 'change');
      });
      watcher.on('error', () => this.#onChange(path, undefined, false));
      this.#watched.set(path, { watcher, identity });
      return true;
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === 'ENOENT' || errno === 'ENOTDIR') return false;
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
  const stats = statSync(Buffer.from(path, 'latin1'), { bigint: true, throwIfNoEntry: false });
  // A number that is free again goes to the next directory that is made.
  return stats?.isDirectory() ? `${stats.dev}:${stats.ino}:${stats.birthtimeNs}` : undefined;
}
