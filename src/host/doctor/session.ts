import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pass, skip, warn, type CheckResult } from './check.ts';

export interface SessionInput {
  readonly uid: number;
  readonly userName: string;
  /** Text of /proc/self/cgroup */
  readonly cgroup?: string;
  /** Where logind notes whose services outlive their logins (logind.conf(5), loginctl(1)) */
  readonly lingerDirectory?: string;
}

/**
 * Whether VMs outlive the login in which they are started: a user's own systemd ends all that it has started, terminals
 * of a desktop among it, with the last login (user@.service(5)), unless the user lingers.
 */
export function checkSession({
  uid,
  userName,
  cgroup = ownGroup(),
  lingerDirectory = '/var/lib/systemd/linger',
}: SessionInput): CheckResult {
  const subject = { id: 'session', title: 'Login' };
  if (cgroup === '') return skip(subject, 'this host tells of no control groups');
  if (!cgroup.includes(`/user@${uid}.service/`))
    return pass(subject, 'no manager of your login ends what is started here');
  if (existsSync(join(lingerDirectory, userName)))
    return pass(subject, 'VMs go on when you log out (you linger)');
  return warn(
    subject,
    'VMs that are started here end when you log out, as by a power cut',
    'Let them go on: loginctl enable-linger',
  );
}

function ownGroup(): string {
  try {
    return readFileSync('/proc/self/cgroup', 'utf8');
  } catch {
    return '';
  }
}
