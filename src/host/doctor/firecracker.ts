import { errorText } from '../../errors.ts';
import { decideJail, type JailerWish } from '../drivers/firecracker/jail.ts';
import { findControlGroups } from '../drivers/firecracker/control-groups.ts';
import { readOwnRights, type OwnRights } from '../drivers/qemu-confinement.ts';
import {
  embeddedKernel,
  isUntried,
  kernelRefusal,
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

export interface FirecrackerCheckInput {
  readonly exec: Exec;
  readonly program: string;
  readonly jailer: JailerWish;
  /** The configuration wants no other VMM */
  readonly isInsistedOn: boolean;
  /** Our own unless given */
  readonly rights?: OwnRights;
}

/**
 * Whether there is a Firecracker, and what is known of its release. VMs run without one. `isFit`: VMs would be run by
 * it if a guest boots, whatever else there is to say.
 */
export async function checkFirecracker({
  exec,
  program,
  jailer,
  isInsistedOn,
  rights = readOwnRights(),
}: FirecrackerCheckInput): Promise<{ readonly check: CheckResult; readonly isFit: boolean }> {
  const unfit = (check: CheckResult) => ({ check, isFit: false });
  let line: string;
  try {
    const { stdout } = await exec([program, '--version'], { timeoutMs });
    line = stdout.toString('utf8').split('\n')[0] ?? '';
  } catch (error) {
    return unfit(skip(firecracker, `${errorText(error)}; QEMU runs VMs`));
  }
  const version = parseFirecrackerVersion(line);
  if (!version) {
    const fix = 'Correct "firecracker" under [vmm] in the configuration';
    return unfit(warn(firecracker, `"${program}" is not Firecracker: "${line}"`, fix));
  }
  const refusal = versionRefusal(version);
  if (refusal !== undefined) return unfit(warn(firecracker, refusal, 'Install a newer release'));
  const blindness = kernelRefusal(version, embeddedKernel);
  if (blindness !== undefined) return unfit(warn(firecracker, blindness, hints.kernel));
  const evidence = `${versionText(version)} (${program})${remarkOn(version)}`;
  const question = { wish: jailer, program, id: '', rights };
  const { jailing, reason } = decideJail(question);
  if (jailing) {
    const limits = limitsText();
    return { check: pass(firecracker, `${evidence}, jailed by ${jailing.jailer}, ${limits}`), isFit: true };
  }
  const notJailed = `${evidence}, not jailed: ${reason}`;
  if (jailer === 'always') return unfit(warn(firecracker, notJailed, hints.always));
  if (rights.uid !== 0) return { check: pass(firecracker, `${evidence}, ${asUser}`), isFit: true };
  if (jailer === 'never') return { check: pass(firecracker, notJailed), isFit: isInsistedOn };
  const hint = isInsistedOn ? hints.insisted : hints.auto;
  return { check: warn(firecracker, notJailed, hint), isFit: isInsistedOn };
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

const hints = {
  kernel: 'Install a newer release, or import a kernel that reads them: banger kernel import FILE',
  auto: 'QEMU runs VMs, as users of their own. To have Firecracker do so, put the jailer of its release beside it',
  insisted: 'Put the jailer of its release beside it: it runs VMs as root else, if without rights',
  always:
    'Put the jailer of its release beside it and run banger as root, or set jailer = "auto" under [vmm]',
};
