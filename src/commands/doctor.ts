import { Command } from 'commander';
import type { Assets } from '../host/assets.ts';
import type { CheckFindings, VmmConfig } from '../host/doctor/run-checks.ts';
import type { Scratch } from '../host/doctor/scratch.ts';
import type { BootRow } from '../host/doctor/boot-table.ts';
import type { TrialBoot } from '../host/doctor/trial-boot.ts';
import type { CheckResult, CheckStatus } from '../host/doctor/check.ts';
import { vmPaths, type Layout } from '../state/layout.ts';
import type { Cli } from './cli.ts';
import { printable } from '../printable.ts';
import { waysText } from './doctor-ways.ts';
import { renderTable } from './table.ts';

export interface DoctorInput {
  readonly layout: Layout;
  readonly temporaryDirectory: string;
  /** `BANGER_HOME`, if it is set */
  readonly home?: string;
  /**
   * Makes the base image's filesystem at `path`, whose directory is private and empty. Absent: an image that is
   * published already is used, or none.
   */
  readonly makeRootDisk?: (path: string) => Promise<void>;
  /** This program's own unless given: `cacheDirectory` is where they are unpacked to */
  readonly openAssets?: (cacheDirectory: string) => Assets;
  /** `/dev/kvm` unless given */
  readonly kvmDevice?: string;
  /** How long a guest may take to boot on it; a busy host takes its time to start even a fake */
  readonly kvmTimeoutMs?: number;
}

/** What `--json` prints. */
interface Diagnosis {
  /** False when a check failed */
  readonly ok: boolean;
  readonly summary: string;
  readonly acceleration: 'kvm' | 'tcg';
  readonly checks: readonly CheckResult[];
  /** Only under `--boot`, when it worked */
  readonly boot?: TrialBoot;
  /** With it: every way to run a VM that this host may have, tried */
  readonly ways?: readonly BootRow[];
}

export function doctorCommand(cli: Cli, input: DoctorInput): Command {
  return new Command('doctor')
    .description('Check whether this host can run VMs, and how fast')
    .option('--boot', 'boot VMs that are thrown away, in each way there may be, and show what takes how long')
    .addHelpText(
      'after',
      '\nNothing is changed on the host. The exit code is 1 when a check fails.\n\nExamples:\n  banger doctor\n  banger doctor --boot',
    )
    .action(async ({ boot = false }: { readonly boot?: boolean }) => {
      const { removeLeftScratches, Scratch } = await import('../host/doctor/scratch.ts');
      const { nearestWritable } = await import('../host/doctor/storage.ts');
      const scratch = new Scratch(input.temporaryDirectory);
      const beside = await nearestWritable(input.layout.vmsDirectory);
      await removeLeftScratches([input.temporaryDirectory, ...(beside === undefined ? [] : [beside])]);
      const jailScratch = beside === undefined ? scratch : new Scratch(beside);
      try {
        const diagnosis = await diagnose(cli, input, { scratch, jailScratch, boot });
        cli.showProgress(undefined);
        cli.print(diagnosis, diagnosisText);
        if (!diagnosis.ok) cli.exitWith(1);
      } finally {
        cli.showProgress(undefined);
        for (const one of [scratch, jailScratch]) await one.remove();
      }
    });
}

async function diagnose(
  cli: Cli,
  input: DoctorInput,
  {
    boot,
    ...scratches
  }: { readonly scratch: Scratch; readonly jailScratch: Scratch; readonly boot: boolean },
): Promise<Diagnosis> {
  const { layout } = input;
  const { runChecks } = await import('../host/doctor/run-checks.ts');
  const { loadConfig, parseConfig } = await import('../state/config.ts');
  const { engineSocketOf } = await import('../engine/rpc/elsewhere.ts');
  const assets = temporaryAssets(input, scratches.scratch);
  const host = await runChecks({
    paths: {
      ...layout,
      engineSocket: engineSocketOf(layout),
      longestSocket: vmPaths(layout, '0'.repeat(32)).controlSocket,
      kvmVerdictFile: layout.kvmProbeFile,
      firecrackerVerdictFile: layout.firecrackerProbeFile,
      temporaryDirectory: input.temporaryDirectory,
    },
    home: input.home,
    readConfig: (): VmmConfig => loadConfig(layout.configFile),
    defaultConfig: parseConfig('', layout.configFile),
    kernel: async () => (await assets()).file('vmlinux.zst'),
    initrd: async () => (await assets()).file('toolbox.cpio.zst'),
    guestId: async () => (await assets()).buildId,
    ...scratches,
    onStage: (stage) => cli.showProgress({ stage }),
    kvmDevice: input.kvmDevice,
    kvmTimeoutMs: input.kvmTimeoutMs,
  });
  const { findNeededPorts } = await import('./needed-ports.ts');
  const { checkNeededPorts } = await import('../host/doctor/ports.ts');
  const { freeNamePort, listHostSetups, namePortOf, readHostSetup } =
    await import('../host/setup/host-setup.ts');
  const setup = readHostSetup(process.getuid!());
  const autoPort = setup ? namePortOf(setup) : freeNamePort(listHostSetups());
  const needed = await findNeededPorts(cli, { configFile: layout.configFile, autoPort });
  const ports = await checkNeededPorts(needed);
  const findings = { ...host, checks: [...host.checks, ports] };
  if (!boot) return conclude(findings);
  return tryBoot(cli, input, { findings, ...scratches, assets });
}

/** Assets unpacked for the moment: doctor leaves the cache as it is, even one that is not there. */
function temporaryAssets(input: DoctorInput, scratch: Scratch): () => Promise<Assets> {
  let opened: Promise<Assets> | undefined;
  const open = async (): Promise<Assets> => {
    const { join } = await import('node:path');
    const openAssets = input.openAssets ?? (await import('../host/assets.ts')).openAssets;
    return openAssets(join(scratch.directory, 'assets'));
  };
  return () => (opened ??= open());
}

async function tryBoot(
  cli: Cli,
  input: DoctorInput,
  {
    findings,
    assets,
    ...scratches
  }: {
    readonly findings: CheckFindings;
    readonly scratch: Scratch;
    readonly jailScratch: Scratch;
    readonly assets: () => Promise<Assets>;
  },
): Promise<Diagnosis> {
  const { runTrialBoot } = await import('../host/doctor/boot-check.ts');
  const { boot, check, ways } = await runTrialBoot({
    findings,
    kernel: async () => (await assets()).file('vmlinux.zst'),
    toolbox: async () => (await assets()).file('toolbox.cpio.zst'),
    modules: async () => (await assets()).file('modules.cpio'),
    makeRootDisk: input.makeRootDisk,
    imagesDirectory: input.layout.imagesDirectory,
    vmsDirectory: input.layout.vmsDirectory,
    ...scratches,
    onStage: (stage) => cli.showProgress({ stage }),
  });
  return conclude({ ...findings, checks: [...findings.checks, check] }, { boot, ways });
}

function conclude(
  { checks, driver, acceleration: ofQemu }: CheckFindings,
  booted: Pick<Diagnosis, 'boot' | 'ways'> = {},
): Diagnosis {
  const acceleration = driver === 'firecracker' ? 'kvm' : ofQemu;
  const problems = checks.filter((check) => check.status === 'fail').length;
  const summary =
    problems > 0
      ? `This host cannot run VMs yet: ${problems} problem${problems === 1 ? '' : 's'}`
      : acceleration === 'kvm'
        ? 'This host can run VMs at full speed, with KVM.'
        : 'This host can run VMs (emulated; expect CPU work to be 10 to 20 times slower).';
  return { ok: problems === 0, summary, acceleration, checks, ...booted };
}

const labels: Readonly<Record<CheckStatus, string>> = {
  pass: 'ok',
  warn: 'warn',
  fail: 'FAIL',
  skip: 'skip',
};

/** One line for each check, with what to do about it below. */
function diagnosisText({ checks, boot, ways, summary }: Diagnosis): string {
  const width = Math.max(...checks.map((check) => check.title.length));
  const lines = checks.flatMap((check) => [
    `${labels[check.status].padEnd(4)}  ${check.title.padEnd(width)}  ${printable(check.evidence)}`,
    ...(check.fix === undefined ? [] : [`      ${' '.repeat(width)}  ${printable(check.fix)}`]),
  ]);
  return [
    ...lines,
    '',
    ...(boot ? [bootText(boot), ''] : []),
    ...(ways ? [waysText(ways), ''] : []),
    summary,
  ].join('\n');
}

function bootText(boot: TrialBoot): string {
  const rows = boot.phases.map((phase) => [phase.title, phase.seconds.toFixed(2)]);
  return renderTable(['PHASE', 'SECONDS'], [...rows, ['Total', boot.totalSeconds.toFixed(2)]]);
}
