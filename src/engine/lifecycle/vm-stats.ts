import { stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError, errorText } from '../../errors.ts';
import { monotonicMs } from '../../host/clock.ts';
import { readProcessUsage, type ProcessUsage } from '../../host/process-usage.ts';
import { vmPaths } from '../../state/layout.ts';
import { findVm, listVms, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import type { ParsedParams, ResultOf } from '../rpc/method.ts';
import type { vmStats } from '../rpc/vm-stats-methods.ts';
import { labelled } from '../vm-selection.ts';
import { requireRunning } from './exec-vm.ts';

type Stats = ResultOf<typeof vmStats>[number];

/** How long a guest may take to answer; the VMM's figures do not wait for it any longer. */
const guestTimeoutMs = 5_000;
/** A share of a processor is measured over at least this long, and over no longer than since a sample of this age. */
const shortestMs = 500;
const oldestMs = 60_000;

interface Sample {
  readonly at: number;
  readonly usage: ProcessUsage;
}

/** Samples of VMs that were asked about lately, by VM id, for the next question to be compared with. */
const samples = new WeakMap<EngineContext, Map<string, Sample>>();

/** Measures VMs side by side; see the contract. */
export async function readVmStats(
  context: EngineContext,
  { ids, labels }: ParsedParams<typeof vmStats>,
  signal: AbortSignal,
): Promise<Stats[]> {
  const vms = ids
    ? ids.map((id) => findVm(context.db, id)).filter((vm) => vm !== undefined)
    : labelled(listVms(context.db), labels);
  return Promise.all(vms.map((vm) => measure(context, vm, signal)));
}

async function measure(context: EngineContext, vm: Vm, signal: AbortSignal): Promise<Stats> {
  const [vmm, guest, disk] = await Promise.all([
    measureVmm(context, vm, signal),
    askGuest(context, vm, signal),
    stat(vmPaths(context.layout, vm.id).disk(vm.diskMethod)).catch(() => undefined),
  ]);
  const handles = context.handles.get(vm.id);
  return {
    id: vm.id,
    name: vm.name,
    state: vm.state,
    time: new Date().toISOString(),
    vmm,
    cpus: handles?.cpus ?? vm.cpus,
    memoryLimitBytes: (handles?.memoryMib ?? vm.memoryMib) * 1024 ** 2,
    diskUsedBytes: (disk?.blocks ?? 0) * 512,
    diskBytes: handles?.diskBytes ?? vm.diskBytes,
    ...guest,
  };
}

async function measureVmm(context: EngineContext, vm: Vm, signal: AbortSignal): Promise<Stats['vmm']> {
  const process = context.handles.get(vm.id)?.process;
  if (!process) return undefined;
  const known = samples.get(context) ?? new Map<string, Sample>();
  samples.set(context, known);
  const take = async (): Promise<Sample | undefined> => {
    const usage = await readProcessUsage(process);
    return usage && { at: monotonicMs(), usage };
  };
  const now = monotonicMs();
  let before = known.get(vm.id);
  if (!before || now - before.at > oldestMs) before = await take();
  if (!before) return undefined;
  const tooSoon = shortestMs - (monotonicMs() - before.at);
  if (tooSoon > 0) await sleep(tooSoon, undefined, { signal });
  const after = await take();
  if (!after) return undefined;
  known.set(vm.id, after);
  // A VM that was started again meanwhile counts from nothing.
  const cpuSeconds = Math.max(0, after.usage.cpuSeconds - before.usage.cpuSeconds);
  const cpuPercent = Math.round((cpuSeconds / (after.at - before.at)) * 1000 * 1000) / 10;
  return { cpuPercent, ...after.usage };
}

const separator = 'banger-next';

/** One program of the toolbox, whatever the image has. */
const script = ['/proc/loadavg', '/proc/meminfo', '/proc/net/dev']
  .map((path) => `cat ${path}; echo ${separator};`)
  .join(' ')
  .concat(' df -P -k /');

async function askGuest(
  context: EngineContext,
  vm: Vm,
  signal: AbortSignal,
): Promise<Pick<Stats, 'guest' | 'guestError'>> {
  if (vm.state === 'stopped') return {};
  const bounded = AbortSignal.any([signal, AbortSignal.timeout(guestTimeoutMs)]);
  try {
    requireRunning(vm);
    const guest = await context.guest(vm, bounded, { isWatching: true });
    const { stdout } = await guest.runToolbox(['sh', '-c', script], { signal: bounded });
    return { guest: parseGuestFigures(stdout.toString('utf8')) };
  } catch (error) {
    if (signal.aborted) throw error;
    const isLate = bounded.aborted;
    return { guestError: isLate ? `It did not answer within ${guestTimeoutMs / 1000} s` : errorText(error) };
  }
}

/** Throws when it is not what our own toolbox prints. */
export function parseGuestFigures(text: string): NonNullable<Stats['guest']> {
  const [load = '', memory = '', network = '', disk = ''] = text.split(`${separator}\n`);
  const number = (value: string | undefined): number => {
    const parsed = Number(value);
    if (value === undefined || !Number.isFinite(parsed))
      throw new BangerError('guest_unreachable', 'The guest gave figures that make no sense');
    return parsed;
  };
  const kib = (name: string): number =>
    number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(memory)?.[1]) * 1024;
  const df = disk.trim().split('\n').at(-1)!.split(/\s+/);
  const interfaces = network
    .split('\n')
    .map((line) => /^\s*([^:\s]+):\s*(.*)$/.exec(line))
    .filter((match) => match !== null && match[1] !== 'lo')
    .map((match) => match![2]!.split(/\s+/));
  const sum = (column: number): number =>
    interfaces.reduce((total, fields) => total + number(fields[column]), 0);
  return {
    load: load.split(' ').slice(0, 3).map(number),
    memoryTotalBytes: kib('MemTotal'),
    memoryAvailableBytes: kib('MemAvailable'),
    diskTotalBytes: number(df[1]) * 1024,
    diskUsedBytes: number(df[2]) * 1024,
    receivedBytes: sum(0),
    sentBytes: sum(8),
  };
}
