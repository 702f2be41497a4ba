/** More often than this is nobody's use, and costs whoever is told turns of its event loop. */
const intervalMs = 50;

/** Tells what it is told, but not all of it when that comes fast. */
export function seldom<T>(tell: (what: T) => void): (what: T) => void {
  let last = -Infinity;
  return (what) => {
    const now = performance.now();
    if (now - last < intervalMs) return;
    last = now;
    tell(what);
  };
}
