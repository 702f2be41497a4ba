import { mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText } from '../../errors.ts';
import type { DiskMethodName } from '../disks/disk-method.ts';
import type { Acceleration, DriverName, UserNetwork } from '../drivers/driver.ts';
import { exec as realExec } from '../exec.ts';
import { takeDownDevices } from '../trial-place.ts';
import type { BootCheckInput } from './boot-check.ts';
import { nearestExisting } from './storage.ts';
import { bootTrialVm, type BootPhase, type TrialBoot, type TrialBootInput } from './trial-boot.ts';

/** One way to run a VM, and what came of trying it. */
export interface BootRow {
  readonly driver: DriverName;
  readonly acceleration: Acceleration;
  readonly disk: DiskMethodName;
  readonly network: 'user' | 'none' | 'bridge';
  readonly result: 'works' | 'fails' | 'not tried';
  /** Why not, in one phrase; empty when it works */
  readonly reason: string;
  readonly totalSeconds?: number;
  readonly phases?: readonly BootPhase[];
}

type Way = Pick<BootRow, 'driver' | 'acceleration' | 'disk' | 'network'>;

export interface BootTableInput extends BootCheckInput {
  readonly rootfs: NonNullable<TrialBootInput['rootfs']>;
}

/** Boots a VM in every way that this host may have, one after the other; `first` is the one that was tried already. */
export async function tryWays(input: BootTableInput, first: TrialBoot): Promise<readonly BootRow[]> {
  const { acceleration } = input.findings;
  const usual: Way = { driver: 'qemu', acceleration, disk: 'qcow2', network: 'user' };
  const rows: BootRow[] = [
    { ...usual, result: 'works', reason: '', totalSeconds: first.totalSeconds, phases: first.phases },
  ];
  for (const way of waysBeside(usual)) {
    const refusal = await whyNot(input, way);
    rows.push(
      refusal === undefined ? await tryWay(input, way) : { ...way, result: 'not tried', reason: refusal },
    );
  }
  return rows;
}

/** Each differs from the usual one in one thing; Firecracker reads plain disks only. */
function waysBeside(usual: Way): readonly Way[] {
  return [
    ...(['none', 'bridge'] as const).map((network) => ({ ...usual, network })),
    ...(['reflink', 'copy', 'dm-snapshot'] as const).map((disk) => ({ ...usual, disk })),
    { ...usual, acceleration: usual.acceleration === 'kvm' ? 'tcg' : 'kvm' },
    ...(['user', 'none', 'bridge'] as const).map((network): Way => ({
      driver: 'firecracker',
      acceleration: 'kvm',
      disk: 'copy',
      network,
    })),
  ];
}

/** What the checks have found out is not found out again. */
async function whyNot(
  { findings, scratch, stateDirectory }: BootTableInput,
  way: Way,
): Promise<string | undefined> {
  const notPassed = (id: string): string | undefined => {
    const check = findings.checks.find((one) => one.id === id);
    return check?.status === 'pass' ? undefined : (check?.evidence ?? 'not checked');
  };
  const isFirecracker = way.driver === 'firecracker';
  // Booted on as VMs would be; what else there is to say of it comes first when it was not.
  const notBooted = isFirecracker ? notPassed('firecracker-kvm') : undefined;
  if (notBooted !== undefined) return notPassed('firecracker') ?? notBooted;
  if (way.network === 'bridge')
    return notPassed('bridges') ?? 'it would change the network of this host, which doctor leaves as it is';
  if (isFirecracker) return undefined;
  if (way.acceleration === 'kvm' && findings.acceleration !== 'kvm')
    return notPassed('kvm') ?? 'not asked for';
  const method = findings.diskMethods.find((one) => one.method === way.disk);
  if (method && !method.works) return method.detail;
  if (way.disk !== 'reflink') return undefined;
  const [here, there] = await Promise.all([
    stat(scratch.directory),
    stat(await nearestExisting(stateDirectory)),
  ]);
  return here.dev === there.dev ? undefined : 'temporary files are on another filesystem than VMs';
}

async function tryWay(input: BootTableInput, way: Way): Promise<BootRow> {
  const isFirecracker = way.driver === 'firecracker';
  const { directory: place } = isFirecracker ? input.jailScratch : input.scratch;
  const directory = join(place, `vm-${way.driver}-${way.disk}-${way.network}`);
  const row = await bootIn(input, way, directory);
  try {
    // The next one needs the room.
    await takeDownDevices(input.exec ?? realExec, directory);
    await rm(directory, { recursive: true, force: true });
    return row;
  } catch (error) {
    return { ...way, result: 'fails', reason: errorText(error) };
  }
}

async function bootIn(input: BootTableInput, way: Way, directory: string): Promise<BootRow> {
  const isFirecracker = way.driver === 'firecracker';
  const reach: UserNetwork['reach'] = way.network === 'none' ? 'none' : 'all';
  try {
    await mkdir(directory, { mode: 0o700 });
    const { totalSeconds, phases } = await bootTrialVm({
      ...input,
      ...input.findings,
      acceleration: way.acceleration,
      diskMethod: way.disk,
      reach,
      directory,
      id: (isFirecracker ? input.jailScratch : input.scratch).id,
      socketDirectory: isFirecracker ? input.scratch.directory : undefined,
      vmm: isFirecracker ? await firecracker(input.findings) : undefined,
    });
    return { ...way, result: 'works', reason: '', totalSeconds, phases };
  } catch (error) {
    return { ...way, result: 'fails', reason: errorText(error) };
  }
}

async function firecracker(findings: BootTableInput['findings']): Promise<TrialBootInput['vmm']> {
  const { firecrackerProgram, firecrackerJailer: jailer } = findings;
  const { firecrackerDriver } = await import('../drivers/firecracker.ts');
  return { title: 'Firecracker', driver: firecrackerDriver(firecrackerProgram, { jailer }) };
}
