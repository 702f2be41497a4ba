/** What setTimeout takes at most; anything longer would fire at once. */
const longestTimerMs = 2 ** 31 - 1;

/** Calls back after any time, weeks too. Returns how to take it back. */
export function callAfter(ms: number, callback: () => void): () => void {
  const due = performance.now() + ms;
  let timer: NodeJS.Timeout;
  const wait = (): void => {
    const left = due - performance.now();
    timer =
      left > longestTimerMs ? setTimeout(wait, longestTimerMs) : setTimeout(callback, Math.max(0, left));
  };
  wait();
  return () => clearTimeout(timer);
}
