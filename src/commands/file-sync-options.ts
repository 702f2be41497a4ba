import { homedir } from 'node:os';
import { resolve } from 'node:path';
import { InvalidArgumentError } from 'commander';
import { BangerError } from '../errors.ts';
import { expandHome, guestHome, parseFileSync, splitFileSync, type FileSync } from '../state/file-sync.ts';

export type AskedFile = Pick<FileSync, 'host' | 'guest'>;

/** Collects `--file-sync HOST[:GUEST]`. A relative HOST counts from the current directory. */
export function fileSyncCollector(cwd: string, home = homedir()) {
  return (text: string, collected: readonly AskedFile[] = []): AskedFile[] => {
    try {
      const { host, guest } = splitFileSync(text);
      const path = host.startsWith('~') ? host : resolve(cwd, host);
      const parsed = parseFileSync({ host: path, guest }, home);
      return [...collected, { host: parsed.host, guest: parsed.guest }];
    } catch (error) {
      if (!(error instanceof BangerError)) throw error;
      throw new InvalidArgumentError(`${error.message}${error.hint ? `. ${error.hint}` : ''}.`);
    }
  };
}

/** Collects places in the guest, written as `vm show` shows them or with `~`. */
export function collectGuestPath(text: string, collected: readonly string[] = []): string[] {
  return [...collected, expandHome(text, guestHome)];
}
