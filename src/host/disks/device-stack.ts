import { readFile, rm, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError, errnoOf, errorText } from '../../errors.ts';
import type { Exec } from '../exec.ts';
import { writeFileAtomic } from '../files.ts';
import { Deadline } from '../patience.ts';
import { hostBootId } from '../process.ts';
import { keepUdevAway } from './udev-rules.ts';

/** How the files are named in which devices are written down. */
export const recordSuffix = '.devices.json';

export interface StackOptions {
  /** How long a device may be held by somebody else, such as udev, before it is given up */
  readonly busyTimeoutMs?: number;
  /** `/run/udev` unless given */
  readonly udevDirectory?: string;
}

/** One device, written down before it is made. */
type StackStep =
  | {
      readonly kind: 'loop';
      readonly file: string;
      /** Inode of the file: its name may lead to another one by the time that the device is taken down */
      readonly inode?: string;
      /** Loop devices of that file which were there before, and are somebody else's */
      readonly before: readonly string[];
      /** Absent until it is known */
      readonly device?: string;
    }
  | { readonly kind: 'mapping'; readonly name: string };

interface StackRecord {
  /** Of the host. Devices do not outlive it, and their names are given to others. */
  readonly bootId: string;
  /** In the order in which they are made */
  readonly steps: readonly StackStep[];
}

const defaultBusyTimeoutMs = 10_000;
const busyPollMs = 50;

/**
 * Block devices that are made one upon the other, and taken down in reverse, by whoever comes next if need be: each
 * is written to a file before it is made, and struck out once it is gone.
 */
export class DeviceStack {
  readonly #exec: Exec;
  readonly #file: string;
  readonly #busyTimeoutMs: number;
  readonly #udevDirectory: string | undefined;
  #steps: StackStep[] = [];

  constructor(
    exec: Exec,
    file: string,
    { busyTimeoutMs = defaultBusyTimeoutMs, udevDirectory }: StackOptions = {},
  ) {
    this.#exec = exec;
    this.#file = file;
    this.#busyTimeoutMs = busyTimeoutMs;
    this.#udevDirectory = udevDirectory;
  }

  /** Makes a loop device of a file; returns its path. */
  async addLoop(file: string, { isReadOnly }: { readonly isReadOnly: boolean }): Promise<string> {
    const { ino } = await stat(file, { bigint: true });
    const step = { kind: 'loop', file, inode: String(ino), before: await this.#loopsOf(file) } as const;
    await this.#write([...this.#steps, step]);
    const options = isReadOnly ? ['--read-only'] : [];
    const { stdout } = await this.#exec(['losetup', '--find', '--show', ...options, file]);
    const device = stdout.toString('utf8').trim();
    await this.#write([...this.#steps.slice(0, -1), { ...step, device }]);
    return device;
  }

  /** Makes a device of device-mapper; returns its path. */
  async addMapping(
    name: string,
    { table, isReadOnly }: { readonly table: readonly string[]; readonly isReadOnly: boolean },
  ): Promise<string> {
    await keepUdevAway(this.#exec, this.#udevDirectory);
    await this.#write([...this.#steps, { kind: 'mapping', name }]);
    const options = isReadOnly ? ['--readonly'] : [];
    await this.#exec(['dmsetup', 'create', name, ...options], { input: `${table.join('\n')}\n` });
    // The kernel's own name for it, by its minor number: one with the device's name is there only where udev runs.
    const ask = ['--columns', '--noheadings', '--options', 'minor'] as const;
    const { stdout } = await this.#exec(['dmsetup', 'info', ...ask, name]);
    return `/dev/dm-${stdout.toString('utf8').trim()}`;
  }

  /**
   * Takes down all that is written down, last made first; what is gone counts as taken down. Throws `busy` when
   * somebody holds a device, which stays written down with all that is below it.
   */
  async takeDown(): Promise<void> {
    this.#steps = [...(await readRecord(this.#file))];
    for (let last = this.#steps.at(-1); last; last = this.#steps.at(-1)) {
      await (last.kind === 'loop' ? this.#removeLoop(last) : this.#removeMapping(last.name));
      await this.#strikeOut();
    }
    await rm(this.#file, { force: true });
  }

  async #removeMapping(name: string): Promise<void> {
    await this.#untilFree(name, async () => {
      if (!(await this.#hasMapping(name))) return;
      await this.#exec(['dmsetup', 'remove', name]);
    });
  }

  async #hasMapping(name: string): Promise<boolean> {
    const { exitCode, stderr } = await this.#exec(['dmsetup', 'info', name], { okExitCodes: [1] });
    if (exitCode === 0) return true;
    // Words of libdevmapper for a device that is not there, and for a kernel that has none at all.
    if (/does not exist|open failed: No such/.test(stderr)) return false;
    throw new BangerError('command_failed', `Device "${name}" cannot be asked about: ${stderr.trim()}`);
  }

  async #removeLoop(step: Extract<StackStep, { kind: 'loop' }>): Promise<void> {
    for (const one of await this.#loopsOfStep(step))
      await this.#untilFree(one, () => this.#exec(['losetup', '--detach', one]));
  }

  async #loopsOfStep({
    file,
    inode,
    before,
    device,
  }: Extract<StackStep, { kind: 'loop' }>): Promise<string[]> {
    const now = await this.#loopsOf(file);
    // Killed before it had written which one it got: one of that file that was not there before.
    if (device === undefined) return now.filter((one) => !before.includes(one));
    if (now.includes(device)) return [device];
    // Of a file that was replaced or deleted meanwhile, which the device goes on holding.
    return inode !== undefined && (await this.#inodeOf(device)) === inode ? [device] : [];
  }

  /** Inode of the file that is behind a loop device; nothing for one that is free. */
  async #inodeOf(device: string): Promise<string> {
    const argv = ['losetup', '--list', '--noheadings', '--raw', '--output', 'BACK-INO', device] as const;
    const { stdout } = await this.#exec(argv, { okExitCodes: [1] });
    return stdout.toString('utf8').trim();
  }

  async #loopsOf(file: string): Promise<string[]> {
    const argv = [
      'losetup',
      '--list',
      '--noheadings',
      '--raw',
      '--output',
      'NAME',
      '--associated',
      file,
    ] as const;
    const { stdout } = await this.#exec(argv);
    return stdout.toString('utf8').split('\n').filter(Boolean);
  }

  /** A device that was just in use is let go a moment later. */
  async #untilFree(name: string, remove: () => Promise<unknown>): Promise<void> {
    const deadline = new Deadline(this.#busyTimeoutMs);
    for (;;) {
      try {
        await remove();
        return;
      } catch (error) {
        if (!/\bbusy\b/i.test(errorText(error))) throw error;
        if (deadline.isOver()) {
          throw new BangerError('busy', `Device "${name}" is held by another program and cannot be removed`, {
            hint: `See by whom with: lsblk; sudo fuser -v /dev/${name.startsWith('/dev/') ? name.slice(5) : `mapper/${name}`}`,
            cause: error,
          });
        }
      }
      await sleep(busyPollMs);
    }
  }

  /** What is gone counts as taken down: one that stays written down, as on a full disk, does no harm. */
  async #strikeOut(): Promise<void> {
    const left = this.#steps.slice(0, -1);
    try {
      await this.#write(left);
    } catch (error) {
      if (errnoOf(error) !== 'ENOSPC' && errnoOf(error) !== 'EDQUOT') throw error;
      this.#steps = left;
    }
  }

  async #write(steps: readonly StackStep[]): Promise<void> {
    const record: StackRecord = { bootId: hostBootId(), steps };
    await writeFileAtomic(this.#file, `${JSON.stringify(record)}\n`, 0o600);
    this.#steps = [...steps];
  }
}

/** Steps of this boot of the host: devices of an earlier one are gone. */
async function readRecord(file: string): Promise<readonly StackStep[]> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
  const { bootId, steps } = JSON.parse(text) as StackRecord;
  return bootId === hostBootId() ? steps : [];
}
