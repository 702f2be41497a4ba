import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../../errors.ts';
import type { GitConfig } from './git-config.ts';
import { hostEnvironment } from './host-git.ts';

/** More is no list that somebody wrote. */
const maxBytes = 1024 * 1024;

type Environment = Readonly<Record<string, string | undefined>>;

/** What a user has written for all repositories, and where; `setting` names the file unless it is where git looks by itself. */
export async function readUserFile(
  config: GitConfig,
  { setting, name }: { readonly setting: string; readonly name: string },
  env: Environment = hostEnvironment(),
): Promise<{ readonly file: string; readonly text: string } | undefined> {
  const file = placeOf(config.get(setting)?.at(-1), name, env);
  return file === undefined ? undefined : { file, text: await textOf(file) };
}

function placeOf(
  set: string | undefined,
  name: string,
  { HOME: home, XDG_CONFIG_HOME: configHome }: Environment,
): string | undefined {
  if (set?.startsWith('~/')) return home && join(home, set.slice(2));
  if (set !== undefined) return set.startsWith('/') ? set : undefined;
  const directory = configHome || (home && join(home, '.config'));
  return directory && join(directory, 'git', name);
}

/** Bytes, one per character. */
async function textOf(file: string): Promise<string> {
  try {
    const stats = await stat(file);
    return stats.isFile() && stats.size <= maxBytes ? await readFile(file, 'latin1') : '';
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return '';
  }
}
