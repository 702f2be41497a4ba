import { BangerError } from '../../errors.ts';
import { checkPort, type HostPort } from '../ports.ts';
import { pass, skip, warn, type CheckResult, type Subject } from './check.ts';

/** A port that is to be had when it is needed, and nobody of ours listens on now. */
export interface NeededPort extends HostPort {
  /** What it is for, such as `VM "web"` */
  readonly purpose: string;
  /** How another one is used instead */
  readonly wayOut: string;
}

const subject: Subject = { id: 'ports', title: 'Ports' };

/** Whether ports are free that stopped VMs have, and that of the name server. Undefined: nobody knows of any. */
export async function checkNeededPorts(needed: readonly NeededPort[] | undefined): Promise<CheckResult> {
  if (needed === undefined) return skip(subject, 'the engine knows which are published, and does not run');
  const taken: NeededPort[] = [];
  for (const port of needed) {
    try {
      await checkPort(port);
    } catch (error) {
      if (!(error instanceof BangerError)) throw error;
      taken.push(port);
    }
  }
  const [first] = taken;
  if (!first) return pass(subject, 'those of stopped VMs, and of the name server, are free');
  const words = taken.map(({ bind, port, protocol, purpose }) => `${bind}:${port}/${protocol} (${purpose})`);
  return warn(subject, `cannot be had now: ${words.join(', ')}`, first.wayOut);
}
