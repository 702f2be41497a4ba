export type CheckStatus = 'pass' | 'warn' | 'fail' | 'skip';

/** What one check found out. `banger doctor --json` prints it as it is. */
export interface CheckResult {
  /** Stable name for scripts, such as `qemu-img` */
  readonly id: string;
  readonly title: string;
  /** `warn`: VMs run, but something is worse than it could be; `fail`: they do not, or a command cannot work */
  readonly status: CheckStatus;
  /** What was seen, in one phrase */
  readonly evidence: string;
  /** What to do about it, as a command where there is one */
  readonly fix?: string;
}

/** What a check is about. */
export type Subject = Pick<CheckResult, 'id' | 'title'>;

export function pass({ id, title }: Subject, evidence: string): CheckResult {
  return { id, title, status: 'pass', evidence };
}

export function warn({ id, title }: Subject, evidence: string, fix?: string): CheckResult {
  return { id, title, status: 'warn', evidence, fix };
}

export function fail({ id, title }: Subject, evidence: string, fix?: string): CheckResult {
  return { id, title, status: 'fail', evidence, fix };
}

export function skip({ id, title }: Subject, evidence: string): CheckResult {
  return { id, title, status: 'skip', evidence };
}

export const mib = 1024 ** 2;
export const gib = 1024 ** 3;

/** `12.3 GiB`, or `300 MiB` below one. */
export function sizeText(bytes: number): string {
  return bytes >= gib ? `${(bytes / gib).toFixed(1)} GiB` : `${Math.floor(bytes / mib)} MiB`;
}
