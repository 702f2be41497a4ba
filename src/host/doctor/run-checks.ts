import { release, userInfo } from 'node:os';
import { join } from 'node:path';
import { errorText } from '../../errors.ts';
import type { Acceleration, DriverName } from '../drivers/driver.ts';
import { exec as realExec, type Exec } from '../exec.ts';
import type { JailerWish } from '../drivers/firecracker/jail.ts';
import { readOwnRights } from '../drivers/qemu-confinement.ts';
import { mayAdministerNetwork } from '../network/rights.ts';
import { readHostSetup } from '../setup/host-setup.ts';
import { systemPlaces } from '../setup/places.ts';
import { bridgesOf } from '../setup/plan-setup.ts';
import { knownOwners } from '../setup/setup-host.ts';
import { readSetupState } from '../setup/setup-state.ts';
import { checkAcceleration } from './acceleration.ts';
import { checkBridges } from './bridges.ts';
import { checkDefaultNetwork } from './default-network.ts';
import { fail, type CheckResult, type Subject } from './check.ts';
import { checkDisks, type DiskMethodReport, type DisksInput } from './disks.ts';
import { checkDirectory, checkSocketPath } from './directories.ts';
import type { VmmWish } from '../vmm-choice.ts';
import { checkFirecracker } from './firecracker.ts';
import { checkArchitecture, checkKernel, checkMemory, checkOpenFiles } from './platform.ts';
import { checkNames } from './names.ts';
import { checkPrograms } from './programs.ts';
import type { Scratch } from './scratch.ts';
import { checkConfig, checkEngine, checkLoopback } from './services.ts';
import { checkSession } from './session.ts';
import { checkUnowned } from './unowned.ts';
import { checkExecutable, checkSpace, checkTemporaryDirectory, readOptional } from './storage.ts';

/** The part of the configuration that decides how VMs run. */
export interface VmmConfig {
  readonly accel: 'auto' | Acceleration;
  readonly vmmDriver: VmmWish['driver'];
  readonly qemuProgram: string;
  readonly firecrackerProgram: string;
  readonly firecrackerJailer: JailerWish;
  readonly diskMethod: DisksInput['wanted'];
  /** Of VMs that nobody chooses one for */
  readonly network: string;
  readonly cpus?: number;
}

export interface CheckInput {
  readonly paths: {
    readonly configFile: string;
    readonly stateDirectory: string;
    /** May be a filesystem of its own */
    readonly vmsDirectory: string;
    readonly cacheDirectory: string;
    /** Inside the cache; what is loaded from it gets executed */
    readonly assetsDirectory: string;
    readonly runtimeDirectory: string;
    readonly engineSocket: string;
    /** The longest address of a socket that will be needed */
    readonly longestSocket: string;
    /** What an engine has found that its database does not know */
    readonly unownedNote: string;
    readonly kvmVerdictFile: string;
    readonly firecrackerVerdictFile: string;
    readonly temporaryDirectory: string;
  };
  /** `BANGER_HOME`, if that is where all of this is */
  readonly home?: string;
  /** Throws when the file is wrong */
  readonly readConfig: () => VmmConfig;
  /** What to go by when it is */
  readonly defaultConfig: VmmConfig;
  readonly kernel: () => Promise<string>;
  readonly initrd: () => Promise<string>;
  /** Says which kernel and initrd they are */
  readonly guestId: () => Promise<string>;
  readonly scratch: Scratch;
  /** On the filesystem where VMs are */
  readonly jailScratch: Scratch;
  readonly onStage: (stage: string) => void;
  readonly exec?: Exec;
  readonly kvmDevice?: string;
  readonly kvmTimeoutMs?: number;
}

export interface CheckFindings {
  readonly checks: readonly CheckResult[];
  /** By which VMM VMs will be run */
  readonly driver: DriverName;
  /** Of VMs that QEMU runs */
  readonly acceleration: Acceleration;
  readonly qemuProgram: string;
  readonly firecrackerProgram: string;
  readonly firecrackerJailer: JailerWish;
  readonly diskMethods: readonly DiskMethodReport[];
}

/** Runs every check. Changes nothing on the host, and never throws: a check that breaks is a result as well. */
export async function runChecks(input: CheckInput): Promise<CheckFindings> {
  input.onStage('Checking the host');
  const exec = input.exec ?? realExec;
  const config = usableConfig(input);
  const osRelease = await readOptional('/etc/os-release');
  let hasFirecracker = false;
  const [platform, programs, firecracker, rest] = await Promise.all([
    guard({ id: 'platform', title: 'Platform' }, checkPlatform),
    guard({ id: 'programs', title: 'Programs' }, () =>
      checkPrograms({ exec, qemuProgram: config.qemuProgram, rights: readOwnRights(), osRelease }),
    ),
    guard({ id: 'firecracker', title: 'Firecracker' }, async () => {
      const found = await checkFirecracker({
        exec,
        program: config.firecrackerProgram,
        jailer: config.firecrackerJailer,
        isInsistedOn: config.vmmDriver === 'firecracker',
      });
      hasFirecracker = found.isFit;
      return found.check;
    }),
    checkSurroundings({ ...input, network: config.network }),
  ]);
  const { check: disks, methods } = await checkDisks({
    exec,
    vmsDirectory: input.paths.vmsDirectory,
    wanted: config.diskMethod,
  });
  // Afterwards, for it has a time limit: the others must not take its CPU away.
  let acceleration: Acceleration = 'tcg';
  let driver = 'qemu' as DriverName;
  const kvm = await guard({ id: 'kvm', title: 'KVM' }, async () => {
    const findings = await checkAcceleration({
      exec,
      qemuProgram: config.qemuProgram,
      hasQemu: programs.some((check) => check.id === 'qemu' && check.status === 'pass'),
      wanted: config.accel,
      driver: config.vmmDriver,
      network: config.network,
      diskMethod: config.diskMethod,
      cpus: config.cpus,
      firecrackerProgram: config.firecrackerProgram,
      firecrackerJailer: config.firecrackerJailer,
      hasFirecracker,
      guestId: input.guestId,
      configFile: input.paths.configFile,
      kernel: input.kernel,
      initrd: input.initrd,
      scratch: input.scratch,
      jailScratch: input.jailScratch,
      verdictFile: input.paths.kvmVerdictFile,
      firecrackerVerdictFile: input.paths.firecrackerVerdictFile,
      device: input.kvmDevice ?? '/dev/kvm',
      timeoutMs: input.kvmTimeoutMs,
      cpuinfo: await readOptional('/proc/cpuinfo'),
      groups: await readOptional('/etc/group'),
      onProbe: () => input.onStage('Booting a guest on KVM'),
    });
    ({ acceleration, driver } = findings);
    return findings.checks;
  });
  return {
    checks: [
      ...platform,
      ...(driver === 'firecracker' ? programs.map(withoutQemu) : programs),
      ...firecracker,
      ...kvm,
      disks,
      ...rest,
    ],
    driver,
    acceleration,
    qemuProgram: config.qemuProgram,
    firecrackerProgram: config.firecrackerProgram,
    firecrackerJailer: config.firecrackerJailer,
    diskMethods: methods,
  };
}

/** What is wrong with a QEMU that runs no VM is no problem; other VMs than the configuration's may want it. */
function withoutQemu(check: CheckResult): CheckResult {
  if (check.status !== 'fail' || !check.id.startsWith('qemu')) return check;
  return { ...check, status: 'warn', evidence: `${check.evidence}; VMs are run by Firecracker` };
}

async function checkPlatform(): Promise<CheckResult[]> {
  return [
    checkArchitecture(process.platform, process.arch),
    checkKernel(release()),
    checkMemory(await readOptional('/proc/meminfo')),
    checkOpenFiles(await readOptional('/proc/self/limits')),
  ];
}

async function checkSurroundings({
  paths,
  home,
  readConfig,
  network,
  exec = realExec,
}: CheckInput & Pick<VmmConfig, 'network'>): Promise<CheckResult[]> {
  const directory = (subject: Subject, path: string, isStrict: boolean): Promise<CheckResult[]> =>
    guard(subject, () => checkDirectory(subject, { path, isStrict, uid: process.getuid!() }));
  const state = { id: 'state-directory', title: 'State directory' };
  const stateSpace = { id: 'state-space', title: 'State space' };
  const cache = { id: 'cache-directory', title: 'Cache directory' };
  const cacheSpace = { id: 'cache-space', title: 'Cache space' };
  const cacheExec = { id: 'cache-exec', title: 'Cache mount' };
  const assets = { id: 'assets-directory', title: 'Cached programs' };
  const runtime = { id: 'runtime-directory', title: 'Runtime directory' };
  const unowned = { id: 'unowned', title: 'Unowned state' };
  const loopback = { id: 'loopback', title: 'Loopback' };
  const bridges = { id: 'bridges', title: 'Bridges' };
  const engine = { id: 'engine', title: 'Engine' };
  const session = { id: 'session', title: 'Login' };
  const names = { id: 'names', title: 'Names' };
  const uid = process.getuid!();
  const setup = readHostSetup(uid);
  const groups = await Promise.all([
    directory(state, paths.stateDirectory, false),
    guard(stateSpace, () => checkSpace(stateSpace, paths.stateDirectory)),
    guard(unowned, () => checkUnowned(paths.unownedNote)),
    directory(cache, paths.cacheDirectory, false),
    directory(assets, paths.assetsDirectory, true),
    guard(cacheSpace, () => checkSpace(cacheSpace, paths.cacheDirectory)),
    guard(cacheExec, async () =>
      checkExecutable(cacheExec, paths.assetsDirectory, await readOptional('/proc/self/mountinfo')),
    ),
    directory(runtime, paths.runtimeDirectory, true),
    checkTemporaryDirectory(paths.temporaryDirectory),
    guard(loopback, () => checkLoopback()),
    guard(bridges, () =>
      checkBridges({
        exec,
        mayAdminister: mayAdministerNetwork(),
        // Nothing is switched on here that would have to be remembered.
        readSetup: () => readSetupState(uid, { exec, places: systemPlaces('') }),
        known: () => knownOwners(paths.stateDirectory),
        home,
      }),
    ),
    guard(engine, () => checkEngine(paths.engineSocket)),
    guard(session, async () => checkSession({ uid, userName: userInfo().username })),
    guard(names, () =>
      checkNames({
        exec,
        sshConfig: join(userInfo().homedir, '.ssh/config'),
        uid,
        links: setup ? bridgesOf(setup) : [],
      }),
    ),
  ]);
  const found = groups.flat();
  return [
    checkConfig(paths.configFile, readConfig),
    ...found,
    checkDefaultNetwork(network, found),
    checkSocketPath(paths.longestSocket),
  ];
}

/** A wrong configuration is reported by its own check; the others go by the defaults. */
function usableConfig(input: CheckInput): VmmConfig {
  try {
    return input.readConfig();
  } catch {
    return input.defaultConfig;
  }
}

/** Turns whatever a check throws into its result. */
async function guard(
  subject: Subject,
  check: () => Promise<CheckResult | readonly CheckResult[]>,
): Promise<CheckResult[]> {
  try {
    return [await check()].flat();
  } catch (error) {
    return [fail(subject, `could not be checked: ${errorText(error)}`)];
  }
}
