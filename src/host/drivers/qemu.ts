import { existsSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { abortError, BangerError, errnoOf } from '../../errors.ts';
import { exec } from '../exec.ts';
import { countOomKills } from '../oom-kills.ts';
import { Deadline } from '../patience.ts';
import {
  findProcessesByArguments,
  commandLine,
  identifyProcess,
  killProcess,
  spawnDetached,
  waitUntilReaped,
  type ProcessIdentity,
} from '../process.ts';
import { QmpClient } from '../qmp.ts';
import type { FoundVmm, VmmDisk, VmmDriver, VmmSpec } from './driver.ts';
import { kernelCommandLine, noClockChip } from './kernel-words.ts';
import {
  askingLess,
  confinementArguments,
  escapeOption,
  isAtLeast,
  mayChangeRoot,
  readOwnRights,
  readQemuBuild,
  vmUser,
  type OtherSelf,
  type QemuBuild,
} from './qemu-confinement.ts';
import { isOurs, keepPreviousLogs, memoryError, processName } from './vmm-process.ts';
import { vmmEnvironment } from './vmm-environment.ts';
import { openQemuControl, parseForwardRules, rootDrive } from './qemu-control.ts';
import { networkArguments } from './qemu-network.ts';
import { killedError, type StartDeath } from './start-death.ts';
import { makeOwnRoot, removeOwnRoot } from './qemu-root.ts';

const consoleDevice = 'console';
/** How long QEMU may take from its start to a control socket that answers. */
const startTimeoutMs = 15_000;
const startPollMs = 5;

/** The QEMU driver; `program` is a name to look up in PATH, or a path. It asks the program once what it is. */
export function qemuDriver(program: string): VmmDriver {
  let asked: Promise<QemuBuild> | undefined;
  return {
    name: 'qemu',
    start: async (spec, signal) => {
      // Asked once, also by several that start at once; a question that came to nothing is asked again.
      asked ??= readQemuBuild(exec, program).catch((error: unknown) => {
        asked = undefined;
        throw error;
      });
      for (;;) {
        const build: QemuBuild = await asked;
        try {
          return await startQemu({ program, build }, spec, signal);
        } catch (error) {
          // Doctor says so: to run VMs without it is better than to run none.
          const less = error instanceof BangerError ? askingLess(build, error.message) : undefined;
          if (!less) throw error;
          asked = Promise.resolve(less);
        }
      }
    },
    find: findQemu,
    control: ({ controlSocket }) => openQemuControl(controlSocket),
  };
}

/** With -no-reboot, a panic or a reboot of the guest ends QEMU instead of hanging it. */
const machineWords = (isKvm: boolean) => ['reboot=t', ...(isKvm ? [noClockChip] : [])];

/**
 * QEMU's command line for a VM.
 *
 * Under emulation the machine is q35: microvm has no clock to calibrate the TSC against, and a guest on a busy
 * host hangs at boot. Under KVM the guest has kvmclock, and microvm starts faster.
 */
export function qemuArguments(spec: VmmSpec, build: QemuBuild, become?: OtherSelf): string[] {
  const isKvm = spec.acceleration === 'kvm';
  const machine = isKvm
    ? ['-M', 'microvm,dump-guest-core=off', '-accel', 'kvm', '-cpu', 'host']
    : ['-M', emulatedMachine(build), '-bios', 'qboot.rom', '-accel', 'tcg,thread=multi', '-cpu', 'max'];
  const bus = isKvm ? 'device' : 'pci';
  const disk = spec.disk
    ? [
        '-drive',
        `if=none,id=${rootDrive},format=${spec.disk.format},cache=writeback,discard=unmap,detect-zeroes=unmap${throttle(spec.disk)},file=${escapeOption(spec.disk.path)}`,
        '-device',
        // A guest that was told of a failed write would give up on its disk: it waits instead, until there is room.
        `virtio-blk-${bus},drive=${rootDrive},werror=stop,rerror=report`,
      ]
    : [];
  return [
    '-name',
    processName(spec.id),
    '-nodefaults',
    '-no-user-config',
    ...confinementArguments(build, become),
    '-no-reboot',
    '-display',
    'none',
    ...machine,
    '-smp',
    String(spec.cpus),
    '-m',
    `${spec.memoryMib}M`,
    '-kernel',
    spec.kernel,
    '-initrd',
    spec.initrd,
    '-append',
    kernelCommandLine(machineWords(isKvm), spec.kernelWords),
    '-chardev',
    // Appending, so that the log can be cut while QEMU writes to it.
    `file,id=${consoleDevice},path=${escapeOption(spec.consoleLog)},append=on`,
    '-serial',
    `chardev:${consoleDevice}`,
    '-qmp',
    `unix:${escapeOption(spec.controlSocket)},server=on,wait=off`,
    ...disk,
    // Their firmware would boot from the network.
    ...networkArguments(spec.network, { model: `virtio-net-${bus}`, options: isKvm ? '' : ',romfile=' }),
    '-device',
    `virtio-rng-${bus}`,
  ];
}

function throttle({ bytesPerSecond }: VmmDisk): string {
  return bytesPerSecond === undefined ? '' : `,throttling.bps-total=${bytesPerSecond}`;
}

/** Without what comes with a PC and no guest of ours uses: each device is code that a guest can reach. */
function emulatedMachine(build: QemuBuild): string {
  const unused = ['sata=off', 'smbus=off', 'vmport=off', 'usb=off', 'graphics=off'];
  if (isAtLeast(build, 7, 1)) unused.push('i8042=off');
  return ['q35', 'dump-guest-core=off', ...unused].join(',');
}

async function startQemu(
  { program, build }: { readonly program: string; readonly build: QemuBuild },
  spec: VmmSpec,
  signal: AbortSignal,
): Promise<ProcessIdentity> {
  await keepPreviousLogs(spec);
  // QEMU would make it for everybody to read.
  await writeFile(spec.consoleLog, '', { mode: 0o600 });
  await rm(spec.controlSocket, { force: true });
  if (signal.aborted) throw abortError(signal);

  const rights = readOwnRights();
  const user = vmUser(spec.id, rights);
  const root =
    user !== undefined && mayChangeRoot(build, rights)
      ? await makeOwnRoot(spec.vmmLog, spec.network)
      : undefined;
  const argv = qemuArguments(spec, build, user === undefined ? undefined : { user, root });
  try {
    return await spawnQemu([program, ...argv], spec, signal);
  } catch (error) {
    // Why it did not start is worth more than what is left of it, which whoever forgets the VM removes.
    if (root !== undefined) await removeOwnRoot(spec.vmmLog).catch(() => undefined);
    throw error;
  }
}

async function spawnQemu(
  argv: readonly [string, ...string[]],
  spec: VmmSpec,
  signal: AbortSignal,
): Promise<ProcessIdentity> {
  const oomKillsBefore = await countOomKills();
  const child = await spawnDetached(argv, { logFile: spec.vmmLog, env: vmmEnvironment() });
  let exited: number | NodeJS.Signals | undefined;
  child.once('exit', (code, how) => {
    exited = code ?? how ?? 1;
    spec.onExit?.(how ?? undefined);
  });
  child.unref();
  const identity = identifyProcess(child.pid!);
  try {
    const deadline = new Deadline(startTimeoutMs);
    for (;;) {
      if (exited !== undefined || identity === undefined) {
        await waitUntilReaped({ pid: child.pid! });
        const death = { signal: child.signalCode ?? undefined, oomKillsBefore };
        throw await startError(argv[0], spec, death);
      }
      if (signal.aborted) throw abortError(signal);
      if (await answers(spec.controlSocket, signal)) return identity;
      if (deadline.isOver()) {
        throw new BangerError(
          'timeout',
          `QEMU did not open its control socket within ${startTimeoutMs / 1000} s`,
        );
      }
      await sleep(startPollMs);
    }
  } catch (error) {
    if (identity) await killProcess(identity);
    throw error;
  }
}

/** The control socket exists once QEMU has read its options and made its devices. */
async function answers(socket: string, signal: AbortSignal): Promise<boolean> {
  try {
    (await QmpClient.connect(socket, signal)).close();
    return true;
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ECONNREFUSED' || errno === 'ECONNRESET') return false;
    if (error instanceof BangerError && error.code === 'command_failed') return false;
    throw error;
  }
}

async function startError(program: string, spec: VmmSpec, death: StartDeath): Promise<BangerError> {
  const killed = await killedError('QEMU', spec.memoryMib, death);
  if (killed) return killed;
  const words = (await readFile(spec.vmmLog, 'utf8').catch(() => '')).trim();
  const lastLine = words.split('\n').at(-1) ?? '';
  const lost = /could not configure \/dev\/net\/tun \(([^)]*)\): (.*)/.exec(words);
  if (lost) {
    return new BangerError('host_unsupported', `The tap "${lost[1]}" cannot be used: ${lost[2]}`, {
      hint: 'See what is wrong with the network of this host: banger doctor; and, where it was set up: banger host status',
    });
  }
  const taken = /Could not set up host forwarding rule '([^']*)'/.exec(words);
  if (taken) return new BangerError('busy', `A port was taken by somebody else meanwhile: ${taken[1]}`);
  if (words.includes('cannot set up guest memory') || words.includes('Cannot allocate memory')) {
    return memoryError(spec.memoryMib, lastLine);
  }
  return new BangerError('command_failed', `QEMU ended at once: ${lastLine || 'it said nothing'}`, {
    hint: `Check the host with: banger doctor --boot (QEMU is "${program}")`,
  });
}

function findQemu(id: string): FoundVmm | undefined {
  for (const pid of findProcessesByArguments(['-name', processName(id)])) {
    const identity = identifyProcess(pid);
    const argv = identity && commandLine(pid);
    if (!argv || !isOurs(pid, vmUser(id, readOwnRights()))) continue;
    const place = argv.indexOf(processName(id)) - 1;
    const ours = argv.slice(place);
    const after = (option: string): string => ours[ours.indexOf(option) + 1] ?? '';
    // Somebody's editor or grep may have been given the same words, but not in this place. A script that the
    // configuration names may have put options of its own before them: then its socket tells.
    const socket = /^unix:(.*),server=on/.exec(after('-qmp'))?.[1]?.replaceAll(',,', ',');
    if (!ours.includes('-nodefaults') || (place !== 1 && !(socket && existsSync(socket)))) continue;
    return {
      driver: 'qemu',
      process: identity,
      forwards: parseForwardRules(after('-netdev')),
      acceleration: after('-accel') === 'kvm' ? 'kvm' : 'tcg',
      cpus: Number.parseInt(after('-smp'), 10),
      memoryMib: Number.parseInt(after('-m'), 10),
    };
  }
  return undefined;
}
