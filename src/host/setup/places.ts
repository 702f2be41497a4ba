import { existsSync } from 'node:fs';
import { BangerError } from '../../errors.ts';
import type { Exec } from '../exec.ts';
import type { Forwarding } from '../network/forwarding.ts';

/** Where a host's setup is written. Tests have places of their own. */
export interface SetupPlaces {
  readonly configDirectory: string;
  readonly unitDirectory: string;
  readonly forwarding: Forwarding;
  /** Whether systemd runs this host */
  readonly hasSystemd: boolean;
  /** Where the files of those are who answer for names */
  readonly systemRoot: string;
}

/** Those of this host; `markers` is where it is remembered what was switched on. */
export function systemPlaces(markers: string): SetupPlaces {
  return {
    configDirectory: '/etc/banger',
    unitDirectory: '/etc/systemd/system',
    forwarding: { markers },
    hasSystemd: existsSync('/run/systemd/system'),
    systemRoot: '/',
  };
}

/** A user for whom a host is set up. */
export interface SetupUser {
  readonly uid: number;
  readonly name: string;
}

/** Who is asked about, by name, and what is to be done for them. */
export interface UserWish {
  readonly verb: 'setup' | 'status' | 'teardown';
  readonly name: string | undefined;
  /** Users for whom it has been set up, some of whom may be gone */
  readonly known?: readonly SetupUser[];
}

/**
 * The user by this name, or, without one, who ran it, also by sudo. Throws `invalid_argument` when there is none, and
 * for root, who needs no setup.
 */
export async function findSetupUser(
  exec: Exec,
  { verb, name, known = [] }: UserWish,
  env: Readonly<Record<string, string | undefined>>,
): Promise<SetupUser> {
  const self = process.getuid!();
  const wanted = name ?? env['SUDO_UID'] ?? (self === 0 ? '' : String(self));
  if (wanted === '') {
    throw new BangerError('invalid_argument', 'It is not known for whom', {
      hint: `Run it by sudo as the user whose VMs they are, or name them: sudo banger host ${verb} --user ${known[0]?.name ?? 'NAME'}`,
    });
  }
  // What begins with a hyphen would be an option of getent's.
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\$?$/.test(wanted)) throw noUser(wanted);
  const { exitCode, stdout } = await exec(['getent', 'passwd', wanted], { okExitCodes: [2] });
  const [found, , uid] = stdout.toString('utf8').split('\n')[0]!.split(':');
  if (exitCode !== 0 || !found || !/^\d+$/.test(uid ?? '')) {
    const gone = verb === 'setup' ? undefined : findGoneUser(wanted, { verb, known });
    if (gone) return gone;
    throw noUser(wanted);
  }
  if (Number(uid) === 0) {
    throw new BangerError(
      'invalid_argument',
      'Root needs no setup: its engine makes what it needs by itself',
      {
        hint: 'Name who does: sudo banger host setup --user NAME',
      },
    );
  }
  return { uid: Number(uid), name: found };
}

/** What was set up for somebody outlives them, and is to be seen and taken down all the same. */
function findGoneUser(wanted: string, { verb, known = [] }: Omit<UserWish, 'name'>): SetupUser | undefined {
  const found = known.find(({ uid, name }) => name === wanted || String(uid) === wanted);
  if (found) return found;
  // A setup that was cut short may have left interfaces and no file.
  const isNumber = /^[1-9]\d{0,9}$/.test(wanted) && Number(wanted) < 2 ** 32 - 1;
  return verb === 'teardown' && isNumber ? { uid: Number(wanted), name: `user id ${wanted}` } : undefined;
}

function noUser(name: string): BangerError {
  return new BangerError('not_found', `There is no user "${name}" on this host`, {
    hint: 'List users with: getent passwd',
  });
}

/** Throws `host_unsupported` for anybody but root. */
export function requireRoot(verb: string, uid = process.getuid!()): void {
  if (uid === 0) return;
  throw new BangerError('host_unsupported', 'Only root may change the network of this host', {
    hint: `Run it as root: sudo banger host ${verb}`,
  });
}
