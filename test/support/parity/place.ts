import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RunningVmm, VmmControl, VmmDriver, VmmSpec } from '../../../src/host/drivers/driver.ts';
import { killProcess, type ProcessIdentity } from '../../../src/host/process.ts';
import { until } from '../banger.ts';
import type { Column } from './columns.ts';
import { diskBytes, guestWords, type GuestTask } from './guest.ts';

/** How long a VMM may take to be gone, once its guest has ended. */
export const exitMs = 60_000;

/** A VMM of the list, with the driver that has its control and what its end told. */
export interface ListedVm {
  readonly spec: VmmSpec;
  readonly vmm: RunningVmm;
  readonly control: VmmControl;
  /** Signals, or `none`, with which `onExit` was called */
  readonly exits: readonly string[];
}

/** Where VMs of one column are started, each with a directory of its own. */
export class Place {
  readonly #column: Column;
  /** What the first guest of the list took to write and flush, whose disk has no rate (`tookMs`) */
  freeMs: number | undefined;
  readonly #started: ProcessIdentity[] = [];
  readonly #controls: VmmControl[] = [];
  #root: string | undefined;
  #made: { program: string; kernel: string; initrd: string } | undefined;

  constructor(column: Column) {
    this.#column = column;
  }

  async prepare(): Promise<void> {
    this.#root = mkdtempSync(join(tmpdir(), 'banger-parity-'));
    this.#made = await this.#column.prepare(this.root);
  }

  get root(): string {
    return this.#root!;
  }

  get program(): string {
    return this.#made!.program;
  }

  driver(program = this.program): VmmDriver {
    return this.#column.driver(program);
  }

  /** What one VM is to be; its files are its own. */
  spec(name: string, changes: Partial<VmmSpec> = {}, task: GuestTask = 'goes-on'): VmmSpec {
    const path = (file: string): string => join(this.root, name, file);
    mkdirSync(join(this.root, name), { recursive: true });
    return {
      id: randomBytes(16).toString('hex'),
      cpus: 1,
      memoryMib: 192,
      kernel: this.#made!.kernel,
      initrd: this.#made!.initrd,
      disk: { path: this.disk(name), format: 'raw' },
      consoleLog: path('console.log'),
      vmmLog: path('vmm.log'),
      controlSocket: path('vm.control'),
      network: {},
      acceleration: this.#column.acceleration,
      kernelWords: guestWords(task),
      ...changes,
    };
  }

  disk(name: string): string {
    const path = join(this.root, name, 'disk');
    writeFileSync(path, '');
    truncateSync(path, diskBytes);
    return path;
  }

  async start(spec: VmmSpec): Promise<ListedVm> {
    const exits: string[] = [];
    const onExit = (signal: NodeJS.Signals | undefined): void => void exits.push(signal ?? 'none');
    const process = await this.driver().start({ ...spec, onExit }, new AbortController().signal);
    this.#started.push(process);
    const { controlSocket, consoleLog, vmmLog } = spec;
    const vmm = { process, controlSocket, consoleLog, vmmLog, disk: spec.disk?.path ?? '' };
    return { spec, vmm, exits, control: await this.control(vmm) };
  }

  /** By a driver of its own, as another engine would. */
  async control(vmm: RunningVmm): Promise<VmmControl> {
    const control = await this.driver().control(vmm);
    this.#controls.push(control);
    return control;
  }

  /** A VMM that prints a line, and then ends or stays there without a word. */
  strangeProgram(does: keyof typeof strangeRests): string {
    const path = join(this.root, `strange-${does.replace(' ', '-')}`);
    const head = '#!/bin/sh\n[ "$1" != --version ] || exec echo version 7.2\n: >"$0.runs"\n';
    writeFileSync(path, `${head}${strangeRests[does]}\n`);
    chmodSync(path, 0o700);
    return path;
  }

  /** Processes that were given a path of ours, other than by a name that VMMs are found by. */
  processes(): string[] {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
      .map((name) => commandLine(name))
      .filter((line) => line.includes(this.root));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const control of this.#controls) control.close();
    for (const process of this.#started) await killProcess(process);
    if (this.#root !== undefined) rmSync(this.#root, { recursive: true, force: true });
  }
}

const strangeRests = {
  ends: "echo 'out of luck' >&2; exit 1",
  'is killed': "echo 'strange: warning: all is well' >&2; kill -KILL $$",
  stays: 'exec tail -f /dev/null',
} as const;

export function consoleOf({ vmm }: ListedVm): string {
  try {
    return readFileSync(vmm.consoleLog, 'latin1');
  } catch {
    return '';
  }
}

export function lastTick(vm: ListedVm): number {
  return Number(/.*^parity-tick (\d+)\r?\n/ms.exec(consoleOf(vm))?.[1] ?? 0);
}

/** Returns when the guest has gone on for a while. */
export async function goesOn(vm: ListedVm): Promise<void> {
  const before = lastTick(vm);
  await until('the guest goes on', () => lastTick(vm) > before);
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return '';
  }
}

/** How long a guest took to write and flush what it times; see guest.ts. */
export function tookMs(vm: ListedVm): number {
  return Number(/parity-took (\d+) ms/.exec(consoleOf(vm))?.[1]);
}
