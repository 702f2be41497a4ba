import { errorText } from '../../errors.ts';
import { decideJail, type JailerWish } from '../drivers/firecracker/jail.ts';
import { findControlGroups } from '../drivers/firecracker/control-groups.ts';
import { readOwnRights, type OwnRights } from '../drivers/qemu-confinement.ts';
import {
  isUntried,
  type FirecrackerVersion,
  parseFirecrackerVersion,
  versionRefusal,
  versionText,
  vsockRefusal,
} from '../drivers/firecracker/version.ts';
import type { Exec } from '../exec.ts';
import { pass, skip, warn, type CheckResult, type Subject } from './check.ts';

const firecracker: Subject = { id: 'firecracker', title: 'Firecracker' };
const timeoutMs = 20_000;

/** Whether there is a Firecracker, and what is known of its release. VMs run without one. */
export async function checkFirecracker(
  exec: Exec,
  program: string,
  jailer: JailerWish,
  rights: OwnRights = readOwnRights(),
): Promise<CheckResult> {
  let line: string;
  try {
    const { stdout } = await exec([program, '--version'], { timeoutMs });
    line = stdout.toString('utf8').split('\n')[0] ?? '';
  } catch (error) {
    return skip(firecracker, `${errorText(error)}; QEMU runs VMs`);
  }
  const version = parseFirecrackerVersion(line);
  if (!version) {
    return warn(
      firecracker,
      `"${program}" is not Firecracker: "${line}"`,
      'Correct "firecracker" under [vmm] in the configuration',
    );
  }
  const refusal = versionRefusal(version);
  if (refusal !== undefined) return warn(firecracker, refusal, 'Install a newer release');
  const evidence = `${versionText(version)} (${program})${remarkOn(version)}`;
  const question = { wish: jailer, program, id: '', rights };
  const { jailing, reason } = decideJail(question);
  if (jailing) return pass(firecracker, `${evidence}, jailed by ${jailing.jailer}, ${limitsText()}`);
  const isWanted = jailer === 'always' || (rights.uid === 0 && jailer === 'auto');
  return isWanted
    ? warn(firecracker, `${evidence}, not jailed: ${reason}`, hints[jailer])
    : pass(firecracker, `${evidence}${rights.uid === 0 ? `, not jailed: ${reason}` : `, ${asUser}`}`);
}

function remarkOn(version: FirecrackerVersion): string {
  if (isUntried(version)) return ', newer than any that banger knows';
  const trouble = vsockRefusal(version);
  return trouble === undefined ? '' : `, without vsock, of which banger makes no use (${trouble})`;
}

/** What one is kept by that nobody can jail. */
const asUser = 'not jailed, which takes root: in a user and a network namespace, without rights';

function limitsText(): string {
  const { hierarchies, reason } = findControlGroups();
  return hierarchies
    ? `with limits by control groups (v${hierarchies.version})`
    : `without limits: ${reason}`;
}

const hints: Readonly<Record<JailerWish, string>> = {
  auto: 'QEMU runs VMs, as users of their own. To have Firecracker do so, put the jailer of its release beside it',
  always:
    'Put the jailer of its release beside it and run banger as root, or set jailer = "auto" under [vmm]',
  never: '',
};
