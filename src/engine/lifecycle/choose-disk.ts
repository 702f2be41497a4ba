import type { DiskMethodName } from '../../state/disk-methods.ts';
import type { EngineContext } from '../context.ts';

/** How the root disk of a new VM is made. */
export function chooseDiskMethod(context: EngineContext): DiskMethodName {
  const { diskMethod } = context.config();
  return diskMethod === 'auto' ? 'qcow2' : diskMethod;
}
