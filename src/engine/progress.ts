/** What a client shows while it waits. */
export interface Progress {
  readonly stage: string;
  readonly detail?: string;
  /** Work done so far and in total, in the same unit; total is absent while unknown */
  readonly done?: number;
  readonly total?: number;
  readonly unit?: 'bytes' | 'files';
  /** Things that are worked on side by side, always all of them and in the same order */
  readonly parts?: readonly ProgressPart[];
}

/** What happens to a part, in the order in which it happens; one that was there before skips the download. */
export const partStates = [
  'waiting',
  'verifying',
  'downloading',
  'downloaded',
  'cached',
  'converting',
  'done',
] as const;
export type PartState = (typeof partStates)[number];

/** One of several things that an operation works on side by side, such as a layer. */
export interface ProgressPart {
  /** Short, and different from the others' */
  readonly name: string;
  readonly state: PartState;
  /** Bytes, of what the state says is being done; total is absent while unknown */
  readonly done?: number;
  readonly total?: number;
}
