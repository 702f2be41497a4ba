import { errorText } from '../../errors.ts';
import {
  askingLess,
  confinementArguments,
  mayChangeRoot,
  readQemuBuild,
  vmUser,
  type OwnRights,
  type QemuBuild,
} from '../drivers/qemu-confinement.ts';
import type { Exec, ExecOutput } from '../exec.ts';
import { fail, pass, skip, warn, type CheckResult, type Subject } from './check.ts';
import { installHint } from './install-hint.ts';

export interface ProgramsInput {
  readonly exec: Exec;
  /** Name or path, as configured */
  readonly qemuProgram: string;
  /** What we may do, and so what a VMM may be kept from */
  readonly rights: OwnRights;
  /** Text of /etc/os-release, for the way to install what is missing */
  readonly osRelease: string;
}

/** The first with the machine options that our command lines use. */
const minQemuMajor = 6;
const timeoutMs = 20_000;

const qemu: Subject = { id: 'qemu', title: 'QEMU' };
const machines: Subject = { id: 'qemu-machines', title: 'QEMU machines' };
const confinement: Subject = { id: 'qemu-confinement', title: 'QEMU confinement' };
const devices: Subject = { id: 'qemu-devices', title: 'QEMU devices' };

/** QEMU and what is needed of it, then the other programs. */
export async function checkPrograms(input: ProgramsInput): Promise<CheckResult[]> {
  const [found, ...others] = await Promise.all([checkQemu(input), checkQemuImg(input), checkGit(input)]);
  if (found.status === 'fail') {
    const reason = 'not tried: QEMU comes first';
    return [found, skip(machines, reason), skip(devices, reason), skip(confinement, reason), ...others];
  }
  const checks = [checkMachines(input), checkDevices(input), checkConfinement(input)];
  return [found, ...(await Promise.all(checks)), ...others];
}

async function checkQemu({ exec, qemuProgram, osRelease }: ProgramsInput): Promise<CheckResult> {
  const printed = await firstLine(exec, [qemuProgram, '--version']);
  if (printed.error !== undefined) return fail(qemu, printed.error, installHint(osRelease, 'qemu'));
  const version = /version (\d+)\.[\d.]*\d/.exec(printed.line);
  if (!version) {
    return fail(
      qemu,
      `"${qemuProgram}" is not QEMU: "${printed.line}"`,
      'Correct "vmm.qemu" in the configuration',
    );
  }
  const evidence = version[0].replace('version ', '');
  if (Number(version[1]) >= minQemuMajor) return pass(qemu, `${evidence} (${qemuProgram})`);
  return fail(
    qemu,
    `${evidence} is older than ${minQemuMajor}.0`,
    'Update the distribution of this host, or set "vmm.qemu" to a newer QEMU',
  );
}

async function checkMachines({ exec, qemuProgram, osRelease }: ProgramsInput): Promise<CheckResult> {
  try {
    const { stdout } = await exec([qemuProgram, '-M', 'help'], { timeoutMs });
    const names = stdout
      .toString('utf8')
      .split('\n')
      .map((line) => line.split(' ')[0]);
    if (!names.includes('q35')) {
      return fail(machines, 'this QEMU has no machine "q35"', installHint(osRelease, 'qemu'));
    }
    if (names.includes('microvm')) return pass(machines, 'microvm, q35');
    return warn(
      machines,
      'q35, but no "microvm", which KVM is used with',
      'Use a QEMU that is built with the machine "microvm"',
    );
  } catch (error) {
    return fail(machines, errorText(error));
  }
}

/** What a QEMU may still do once its machine is made, in case its guest takes it over. */
async function checkConfinement({ exec, qemuProgram, rights }: ProgramsInput): Promise<CheckResult> {
  try {
    const user = vmUser('doctor', rights);
    const hasOwnRoot = (build: QemuBuild): boolean => user !== undefined && mayChangeRoot(build, rights);
    const tryOut = async (build: QemuBuild): Promise<QemuBuild | string> => {
      const become = user === undefined ? undefined : { user, root: hasOwnRoot(build) ? '/' : undefined };
      const argv = [...confinementArguments(build, become), ...['-M', 'none', '-display', 'none']];
      const { exitCode, stderr } = await exec(
        [qemuProgram, '-nodefaults', '-no-user-config', ...argv, '-qmp', 'stdio'],
        { input: leaveAtOnce, timeoutMs, okExitCodes: [1] },
      );
      if (exitCode === 0) return build;
      // As VMs are started, which are better run with less of it than not at all.
      const less = askingLess(build, stderr);
      return less ? tryOut(less) : stderr.trim().split('\n').at(-1) || 'nothing';
    };
    const build = await tryOut(await readQemuBuild(exec, qemuProgram));
    if (typeof build === 'string') return fail(confinement, `QEMU says: ${build}`);
    if (!build.hasSandbox) {
      return warn(
        confinement,
        'this QEMU was built without seccomp',
        'Use a QEMU that is built with seccomp',
      );
    }
    const filtered = 'system calls are filtered, no new privileges';
    const ofItsOwn = hasOwnRoot(build) ? 'a user and a root directory' : 'a user';
    if (user !== undefined) return pass(confinement, `${filtered}, ${ofItsOwn} of its own for each VM`);
    if (rights.uid !== 0) return pass(confinement, `${filtered}, as user ${rights.uid}`);
    return warn(
      confinement,
      `${filtered}, but VMMs run as root: this root may not become another user`,
      'Run banger as a user of its own, not as root',
    );
  } catch (error) {
    return fail(confinement, errorText(error));
  }
}

const leaveAtOnce = ['qmp_capabilities', 'quit']
  .map((execute) => `${JSON.stringify({ execute })}\n`)
  .join('');

/** Makes QEMU build an emulated VM's machine, firmware included, which it then leaves without running it. */
async function checkDevices({ exec, qemuProgram, osRelease }: ProgramsInput): Promise<CheckResult> {
  const machine = ['-M', 'q35', '-bios', 'qboot.rom', '-accel', 'tcg', '-m', '64M', '-S'];
  const network = ['-netdev', 'user,id=net', '-device', 'virtio-net-pci,netdev=net'];
  try {
    const { exitCode, stderr } = await exec(
      [
        qemuProgram,
        ...['-nodefaults', '-no-user-config', '-display', 'none'],
        ...machine,
        ...network,
        ...['-device', 'virtio-rng-pci', '-qmp', 'stdio'],
      ],
      { input: leaveAtOnce, timeoutMs, okExitCodes: [1] },
    );
    if (exitCode === 0) return pass(devices, 'q35 with qboot.rom, virtio and user network');
    const words = stderr.trim().split('\n').at(-1) ?? '';
    return fail(devices, `QEMU says: ${words || 'nothing'}`, installHint(osRelease, 'qemu'));
  } catch (error) {
    return fail(devices, errorText(error));
  }
}

async function checkQemuImg({ exec, osRelease }: ProgramsInput): Promise<CheckResult> {
  const subject = { id: 'qemu-img', title: 'qemu-img' };
  const printed = await firstLine(exec, ['qemu-img', '--version']);
  if (printed.error !== undefined) return fail(subject, printed.error, installHint(osRelease, 'qemu-img'));
  return pass(subject, /version (\S*\d)/.exec(printed.line)?.[1] ?? printed.line);
}

/** VMs run without git; only workspaces need it. */
async function checkGit({ exec, osRelease }: ProgramsInput): Promise<CheckResult> {
  const subject = { id: 'git', title: 'git' };
  const printed = await firstLine(exec, ['git', '--version']);
  if (printed.error !== undefined) {
    return warn(subject, `${printed.error}; workspaces need it`, installHint(osRelease, 'git'));
  }
  return pass(subject, printed.line.replace(/^git version /, ''));
}

type Printed =
  | { readonly line: string; readonly error?: undefined }
  | { readonly line?: undefined; readonly error: string };

async function firstLine(exec: Exec, argv: readonly [string, ...string[]]): Promise<Printed> {
  try {
    const output: ExecOutput = await exec(argv, { timeoutMs });
    return { line: output.stdout.toString('utf8').split('\n')[0]! };
  } catch (error) {
    return { error: errorText(error) };
  }
}
