import type { ConversionLimits } from '../../../src/engine/images/layers/conversion-limits.ts';
import { type EntrySpec, tarOf } from '../tar-builder.ts';

/** A layer that is meant to hurt, and what must come of it. */
export interface HostileLayer {
  /** What it does, for the name of a test */
  readonly title: string;
  /** The layer as a registry serves it: plain, gzip or zstd. Made when called; at most some 25 MB */
  readonly bytes: () => Buffer;
  /** Part of the error. Absent: the layer is accepted, and does no harm */
  readonly error?: RegExp;
  /** The entry that the error names, as shown */
  readonly entry?: string;
  /** What a lower layer has, for those that need one */
  readonly below?: readonly EntrySpec[];
  /** Takes seconds to refuse, since it unpacks to gigabytes */
  readonly isSlow?: boolean;
  /** What it may take on disk at most before it is refused; 0 when it is refused before anything is written */
  readonly diskBytes?: number;
  /** Instead of those that are the default, where these only take longer to reach */
  readonly limits?: Partial<ConversionLimits>;
}

/** The bytes of a plain layer. */
export const plain =
  (...entries: readonly EntrySpec[]) =>
  (): Buffer =>
    tarOf(entries);

/** 0 to `count` - 1. */
export function numbered(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}
