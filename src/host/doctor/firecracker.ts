import { errorText } from '../../errors.ts';
import { decideJail, type JailerWish } from '../drivers/firecracker/jail.ts';
import { readOwnRights, type OwnRights } from '../drivers/qemu-confinement.ts';
import {
  isUntried,
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
  const trouble = vsockRefusal(version);
  if (trouble !== undefined) {
    return warn(
      firecracker,
      `${trouble}: VMs with vsock are refused`,
      'Install another release, such as 1.15',
    );
  }
  const remark = isUntried(version) ? ', newer than any that banger knows' : '';
  const evidence = `${versionText(version)} (${program})${remark}`;
  const question = { wish: jailer, program, id: '', rights };
  const { jailing, reason } = decideJail(question);
  if (jailing) return pass(firecracker, `${evidence}, jailed by ${jailing.jailer}`);
  const isWanted = jailer === 'always' || (rights.uid === 0 && jailer === 'auto');
  return isWanted
    ? warn(firecracker, `${evidence}, not jailed: ${reason}`, hints[jailer])
    : pass(firecracker, `${evidence}${rights.uid === 0 ? `, not jailed: ${reason}` : ''}`);
}

const hints: Readonly<Record<JailerWish, string>> = {
  auto: 'QEMU runs VMs, as users of their own. To have Firecracker do so, put the jailer of its release beside it',
  always:
    'Put the jailer of its release beside it and run banger as root, or set jailer = "auto" under [vmm]',
  never: '',
};
