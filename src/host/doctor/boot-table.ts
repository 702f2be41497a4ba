import { mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errorText } from '../../errors.ts';
import type { DiskMethodName } from '../disks/disk-method.ts';
import type { Acceleration, DriverName, UserNetwork } from '../drivers/driver.ts';
import { exec as realExec } from '../exec.ts';
import { takeDownDevices } from '../trial-place.ts';
import type { BootCheckInput } from './boot-check.ts';
import type { Scratch } from './scratch.ts';
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

/** As VMs will be run, with a disk that can be made everywhere. */
function usualWay({ driver, acceleration }: BootCheckInput['findings']): Way {
  return driver === 'firecracker'
    ? { driver, acceleration: 'kvm', disk: 'copy', network: 'user' }
    : { driver, acceleration, disk: 'qcow2', network: 'user' };
}

/** Boots a VM in every way that this host may have, one after the other; `first` is the usual one, tried already. */
export async function tryWays(input: BootTableInput, first: TrialBoot): Promise<readonly BootRow[]> {
  const usual = usualWay(input.findings);
  const rows: BootRow[] = [
    { ...usual, result: 'works', reason: '', totalSeconds: first.totalSeconds, phases: first.phases },
  ];
  const others: { readonly way: Way; readonly refusal: string | undefined }[] = [];
  for (const way of waysBeside(usual, input.findings.acceleration))
    others.push({ way, refusal: await whyNot(input, way) });
  const count = others.filter(({ refusal }) => refusal === undefined).length;
  let tried = 0;
  for (const { way, refusal } of others) {
    if (refusal !== undefined) {
      rows.push({ ...way, result: 'not tried', reason: refusal });
      continue;
    }
    input.onStage(`Trying another way, ${++tried} of ${count}: ${wordsOf(way)}`);
    // Its phases are those of the first, and say nothing new.
    rows.push(await tryWay({ ...input, onStage: () => undefined }, way));
  }
  return rows;
}

function wordsOf({ driver, acceleration, disk, network }: Way): string {
  const names = { qemu: 'QEMU', firecracker: 'Firecracker', kvm: 'KVM', tcg: 'emulation' } as const;
  return `${names[driver]} by ${names[acceleration]}, disk by ${disk}, network ${network}`;
}

const networks = ['user', 'none'] as const;

/**
 * Every disk with every network, for each VMM that may be chosen here; what is the same whatever the disk is, a bridge
 * and the other acceleration, once. Firecracker reads plain disks only.
 */
function waysBeside(usual: Way, acceleration: Acceleration): readonly Way[] {
  const product = (way: Way, disks: readonly Way['disk'][]): Way[] =>
    disks.flatMap((disk) => networks.map((network) => ({ ...way, disk, network })));
  const qemu: Way = { driver: 'qemu', acceleration, disk: 'qcow2', network: 'user' };
  const firecracker: Way = { driver: 'firecracker', acceleration: 'kvm', disk: 'copy', network: 'user' };
  const ways: readonly Way[] = [
    ...product(qemu, ['qcow2', 'reflink', 'copy', 'dm-snapshot']),
    { ...qemu, network: 'bridge' },
    { ...qemu, acceleration: acceleration === 'kvm' ? 'tcg' : 'kvm' },
    ...product(firecracker, ['reflink', 'copy', 'dm-snapshot']),
    { ...firecracker, network: 'bridge' },
  ];
  return ways.filter((way) => nameOf(way) !== nameOf(usual));
}

function nameOf({ driver, acceleration, disk, network }: Way): string {
  return [driver, acceleration, disk, network].join('-');
}

/** What the checks have found out is not found out again. */
async function whyNot(input: BootTableInput, way: Way): Promise<string | undefined> {
  const { findings, vmsDirectory } = input;
  const notPassed = (id: string): string | undefined => {
    const check = findings.checks.find((one) => one.id === id);
    return check?.status === 'pass' ? undefined : (check?.evidence ?? 'not checked');
  };
  const isFirecracker = way.driver === 'firecracker';
  const qemu = findings.checks.find(({ id }) => id === 'qemu');
  if (!isFirecracker && qemu && qemu.status !== 'pass') return qemu.evidence;
  // Booted on as VMs would be; what else there is to say of it comes first when it was not.
  const notBooted = isFirecracker ? notPassed('firecracker-kvm') : undefined;
  if (notBooted !== undefined) return notPassed('firecracker') ?? notBooted;
  if (way.network === 'bridge')
    return notPassed('bridges') ?? 'it would change the network of this host, which doctor leaves as it is';
  if (!isFirecracker && way.acceleration === 'kvm' && findings.acceleration !== 'kvm')
    return notPassed('kvm') ?? 'not asked for';
  const method = findings.diskMethods.find((one) => one.method === way.disk);
  if (method && !method.works) return method.detail;
  if (way.disk !== 'reflink') return undefined;
  const [here, there] = await Promise.all([
    stat(placeOf(input, way).directory),
    stat(await nearestExisting(vmsDirectory)),
  ]);
  return here.dev === there.dev ? undefined : 'temporary files are on another filesystem than VMs';
}

/** Beside VMs what depends on where they are: blocks are shared, and jails made, there. */
function placeOf({ scratch, jailScratch }: BootCheckInput, { driver, disk }: Way): Scratch {
  return driver === 'firecracker' || disk === 'reflink' ? jailScratch : scratch;
}

async function tryWay(input: BootTableInput, way: Way): Promise<BootRow> {
  const directory = join(placeOf(input, way).directory, `vm-${way.driver}-${way.disk}-${way.network}`);
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
  try {
    const { totalSeconds, phases } = await bootWay(input, way, directory);
    return { ...way, result: 'works', reason: '', totalSeconds, phases };
  } catch (error) {
    return { ...way, result: 'fails', reason: errorText(error) };
  }
}

/** Boots a VM in one way, with its files in a directory of its own, which is made. */
async function bootWay(
  input: BootCheckInput & Pick<TrialBootInput, 'rootfs'>,
  way: Way,
  directory: string,
): Promise<TrialBoot> {
  const reach: UserNetwork['reach'] = way.network === 'none' ? 'none' : 'all';
  await mkdir(directory, { mode: 0o700 });
  return bootTrialVm({
    ...input,
    ...input.findings,
    acceleration: way.acceleration,
    diskMethod: way.disk,
    reach,
    directory,
    id: placeOf(input, way).id,
    socketDirectory: input.scratch.directory,
    vmm: way.driver === 'firecracker' ? await firecracker(input.findings) : undefined,
  });
}

/** Boots a VM as VMs will be run; what it leaves goes with the scratch directories. */
export function bootUsually(input: BootCheckInput & Pick<TrialBootInput, 'rootfs'>): Promise<TrialBoot> {
  const way = usualWay(input.findings);
  return bootWay(input, way, join(placeOf(input, way).directory, 'vm'));
}

async function firecracker(findings: BootTableInput['findings']): Promise<TrialBootInput['vmm']> {
  const { firecrackerProgram, firecrackerJailer: jailer } = findings;
  const { firecrackerDriver } = await import('../drivers/firecracker.ts');
  return { title: 'Firecracker', driver: firecrackerDriver(firecrackerProgram, { jailer }) };
}
