export interface VmmDeath {
  /** What the VMM said last of what troubled it; empty when it said nothing */
  readonly lastLine: string;
  /** What ended it; unknown when another engine had started it */
  readonly signal: NodeJS.Signals | undefined;
  /** Processes that the kernel killed for want of memory while the VMM lived */
  readonly oomKills: number;
  readonly memoryMib: number;
}

/** Why a VMM is gone that nobody of us has ended, for the person who finds its VM stopped. */
export function vmmDeathText({ lastLine, signal, oomKills, memoryMib }: VmmDeath): string {
  // SIGKILL leaves nobody time to say why: whatever was said before is about something else.
  const mayBeOom = oomKills > 0 && (signal === 'SIGKILL' || (signal === undefined && lastLine === ''));
  if (mayBeOom) {
    const how = signal ? 'was killed by SIGKILL' : 'ended by itself';
    return (
      `The VMM ${how} after the host, or its memory limit, had run out of memory (the kernel ended ${oomKills} ` +
      `${oomKills === 1 ? 'process' : 'processes'}); the VM has ${memoryMib} MiB: give it less with banger vm set --memory`
    );
  }
  if (signal === 'SIGKILL') return 'The VMM was killed from outside by SIGKILL';
  const words = lastLine === '' ? '' : `: ${lastLine}`;
  if (signal) return `The VMM ended by itself, by ${signal}${words}`;
  return `The VMM ended by itself${words || ' (killed from outside, or crashed)'}`;
}
