/**
 * Milliseconds of the host's monotonic clock: the same in every process until the host boots again, not moved when
 * somebody sets the time, and standing still while the host is suspended.
 */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}
