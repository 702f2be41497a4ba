import type { Exec } from '../exec.ts';
import type { DiskMethod, DiskMethodName } from './disk-method.ts';
import { dmSnapshot } from './dm-snapshot.ts';
import { qcow2Overlay } from './qcow2.ts';
import { reflinkClone, sparseCopy } from './raw-files.ts';

/** The method of this name. */
export function diskMethod(exec: Exec, name: DiskMethodName): DiskMethod {
  switch (name) {
    case 'qcow2':
      return qcow2Overlay(exec);
    case 'reflink':
      return reflinkClone;
    case 'dm-snapshot':
      return dmSnapshot(exec);
    case 'copy':
      return sparseCopy(exec);
  }
}
