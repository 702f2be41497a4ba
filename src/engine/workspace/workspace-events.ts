import { listVms } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';

/** Tells of what no row does, since none changes: that a guest's changes were fetched, or merged here. */
export function tellWorkspace(
  { db, events }: Pick<EngineContext, 'db' | 'events'>,
  action: 'exported' | 'applied',
  about: { readonly vm: string; readonly hostPath: string; readonly guestPath: string },
): void {
  const { vm: name, hostPath, guestPath } = about;
  // By its present name: one that was renamed or deleted meanwhile has no id to tell.
  const id = listVms(db).find((vm) => vm.name === name)?.id;
  if (id !== undefined) events.publish({ type: 'workspace', action, id, name, hostPath, guestPath });
}
