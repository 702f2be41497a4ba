import type { GitConfig } from './git-config.ts';
import { readUserFile } from './user-files.ts';

/** Attributes by which the same content is another file. */
const converts = /^[^#\n]*[\s!-](?:text|eol|crlf|binary|ident|working-tree-encoding)\b/m;

/**
 * Warns of attributes that the user has for all repositories, when they decide what files look like: git on this host
 * compares by them, and git in the guest, which does not get them, may see changes where there are none.
 */
export async function userAttributesWarnings(
  config: GitConfig,
  env?: Readonly<Record<string, string | undefined>>,
): Promise<string[]> {
  const found = await readUserFile(config, { setting: 'core.attributesfile', name: 'attributes' }, env);
  if (found === undefined || !converts.test(found.text)) return [];
  return [
    `"${found.file}" says what files look like in all of your repositories and stays behind: git in the VM may see changes that there are not; what this tree needs of it belongs in its .gitattributes`,
  ];
}
