import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../../errors.ts';
import type { GitConfig } from './git-config.ts';
import { hostEnvironment } from './host-git.ts';

/** More is no list that somebody wrote. */
const maxBytes = 1024 * 1024;
/** Attributes by which the same content is another file. */
const converts = /^[^#\n]*[\s!-](?:text|eol|crlf|binary|ident|working-tree-encoding)\b/m;

/**
 * Warns of attributes that the user has for all repositories, when they decide what files look like: git on this host
 * compares by them, and git in the guest, which does not get them, may see changes where there are none.
 */
export async function userAttributesWarnings(
  config: GitConfig,
  env: Readonly<Record<string, string | undefined>> = hostEnvironment(),
): Promise<string[]> {
  const file = attributesFile(config, env);
  if (file === undefined || !converts.test(await textOf(file))) return [];
  return [
    `"${file}" says what files look like in all of your repositories and stays behind: git in the VM may see changes that there are not; what this tree needs of it belongs in its .gitattributes`,
  ];
}

function attributesFile(
  config: GitConfig,
  { HOME: home, XDG_CONFIG_HOME: configHome }: Readonly<Record<string, string | undefined>>,
): string | undefined {
  const set = config.get('core.attributesfile')?.at(-1);
  if (set?.startsWith('~/')) return home && join(home, set.slice(2));
  if (set !== undefined) return set.startsWith('/') ? set : undefined;
  const directory = configHome || (home && join(home, '.config'));
  return directory && join(directory, 'git/attributes');
}

async function textOf(file: string): Promise<string> {
  try {
    const stats = await stat(file);
    return stats.isFile() && stats.size <= maxBytes ? await readFile(file, 'utf8') : '';
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return '';
  }
}
