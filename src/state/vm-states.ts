/**
 * A VM's states. One in “-ing” (other than running) means an operation is at work; found at start-up, the
 * operation died and the reconciler finishes it.
 */
export const vmStates = [
  'creating',
  'starting',
  'running',
  'stopping',
  'stopped',
  'paused',
  'deleting',
] as const;

export type VmState = (typeof vmStates)[number];

const next: Readonly<Record<VmState, readonly VmState[]>> = {
  creating: ['starting', 'stopped', 'deleting'],
  starting: ['running', 'stopped', 'deleting'],
  running: ['stopping', 'stopped', 'paused', 'deleting'],
  // To itself: a stop that failed halfway is tried again.
  stopping: ['stopping', 'stopped', 'running', 'paused', 'deleting'],
  stopped: ['starting', 'deleting'],
  paused: ['running', 'stopping', 'stopped', 'deleting'],
  deleting: ['deleting'],
};

/** The states a VM may be in just before it goes to `state`. */
export function statesBefore(state: VmState): readonly VmState[] {
  return vmStates.filter((before) => next[before].includes(state));
}
