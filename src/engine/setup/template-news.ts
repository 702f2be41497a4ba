import { BangerError } from '../../errors.ts';
import type { Database } from '../../state/database.ts';
import { findVmTemplate } from '../../state/templates.ts';
import type { Vm } from '../../state/vms.ts';
import { readTemplate } from './read-template.ts';

/**
 * What somebody should know who sends a tree to a VM that exists: that its template is another one than the VM was made
 * from, or that none was used. Undefined when there is nothing to tell.
 */
export async function templateNews(db: Database, vm: Vm, hostPath: string): Promise<string | undefined> {
  const recorded = findVmTemplate(db, vm.id);
  const used = recorded?.hostPath === hostPath ? recorded.template : undefined;
  const now = await currentFile(hostPath, used?.file);
  if (!used) return now && `"${now.file}" is not used: VM "${vm.name}" was not made from it`;
  if (now?.sha256 === used.sha256) return undefined;
  const what = now === undefined ? 'is gone' : 'has changed';
  return `"${used.file}" ${what} since VM "${vm.name}" was made from it, and the VM stays as it is. To make another: banger vm delete ${vm.name}; banger workspace prepare ${hostPath}`;
}

/** A file that is wrong is one that has changed, and no reason not to send the tree. */
async function currentFile(
  hostPath: string,
  file: string | undefined,
): Promise<{ readonly file: string; readonly sha256?: string } | undefined> {
  try {
    return (await readTemplate(hostPath, { hasImage: true, file }))?.template;
  } catch (error) {
    if (!(error instanceof BangerError)) throw error;
    if (error.code === 'not_found') return undefined;
    return { file: 'What the tree says about its VM' };
  }
}
