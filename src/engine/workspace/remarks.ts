import { shellQuote } from '../../host/shell-quote.ts';
import type { GuestChanges, GuestWorkspace } from './guest-tree/guest-changes.ts';
import { displayPath, pathText, type RawPath } from './host-tree/raw-path.ts';

/** What whoever takes over a guest's changes has to know: what is not among them, and what is unfinished. */
export function remarksOn(
  { nested, underWay, unresolved }: GuestChanges,
  workspace: Pick<GuestWorkspace, 'vmName' | 'guestPath'>,
  what: 'in the patch' | 'in the mails' | 'applied',
): string[] {
  const remarks = nested.map((path) => {
    const look = lookInto(path, workspace);
    return `"${displayPath(path)}" is a repository of its own: what changed in it is not ${what}. See it with: ${look}`;
  });
  const names = unresolved.slice(0, 5).map((path) => `"${displayPath(path)}"`);
  const more = unresolved.length > names.length ? ` and ${unresolved.length - names.length} more` : '';
  const conflicts = `conflicts that are not resolved: ${names.join(', ')}${more}`;
  const vm = `VM "${workspace.vmName}"`;
  if (underWay.length > 0) {
    const of =
      what === 'in the mails'
        ? 'mails are of the commits that are there now'
        : 'files are taken as they are now';
    const also = unresolved.length > 0 ? `, with ${conflicts}` : '';
    remarks.push(
      `In ${vm}, git is in the middle of a ${underWay.map((what) => (what === 'am' ? 'git am' : what)).join(' and a ')}: ${of}${also}`,
    );
  } else if (unresolved.length > 0) {
    remarks.push(`Files in ${vm} have ${conflicts}`);
  }
  return remarks;
}

function lookInto(
  path: RawPath,
  { vmName, guestPath }: Pick<GuestWorkspace, 'vmName' | 'guestPath'>,
): string {
  return `banger vm exec ${vmName} -- ${shellQuote(['git', '-C', `${guestPath}/${pathText(path)}`, 'status'])}`;
}
