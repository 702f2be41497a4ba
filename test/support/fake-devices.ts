import { statSync } from 'node:fs';
import type { Exec } from '../../src/host/exec.ts';
import { BangerError } from '../../src/errors.ts';

export interface FakeDevices {
  readonly exec: Exec;
  readonly commands: string[];
  /** Files of loop devices, by device */
  readonly loops: ReadonlyMap<string, string>;
  /** Tables of device-mapper's devices, by name */
  readonly mappings: ReadonlyMap<string, string>;
  /** Somebody else makes a loop device of a file */
  addForeignLoop(file: string): string;
  /** The nth command from now on fails before or after it has done its work, and with it all that follow, if asked */
  failAt(count: number, how: { readonly isDone: boolean; readonly isLast: boolean }): void;
  /** A device that is busy for as many attempts to remove it */
  keepBusy(name: string, attempts: number): void;
  /** A snapshot that the kernel has given up */
  throwAway(name: string): void;
}

/**
 * Loop devices and device-mapper as losetup and dmsetup show them: what is in use cannot be removed, a table names
 * devices that are there, and a command line that is not one of ours is an error.
 */
export function fakeDevices(): FakeDevices {
  const loops = new Map<string, string>();
  /** Of the files behind loop devices, which hold them whatever their names lead to later */
  const inodes = new Map<string, number>();
  const mappings = new Map<string, string>();
  const minors = new Map<string, number>();
  const commands: string[] = [];
  const busy = new Map<string, number>();
  const thrownAway = new Set<string>();
  let failing: { left: number; isDone: boolean; isLast: boolean } | undefined;

  const addLoop = (file: string): string => {
    const number = [...Array(64).keys()].find((one) => !loops.has(`/dev/loop${one}`))!;
    loops.set(`/dev/loop${number}`, file);
    inodes.set(`/dev/loop${number}`, statSync(file).ino);
    return `/dev/loop${number}`;
  };
  const minorOf = (name: string): number => minors.get(name) ?? -1;
  const isHeld = (device: string): boolean =>
    [...mappings.values()].some((table) => table.split(/\s+/).includes(device));
  const isBusy = (name: string): boolean => {
    const left = busy.get(name) ?? 0;
    busy.set(name, left - 1);
    return left > 0;
  };
  const refuse = (words: string): never => {
    throw new BangerError('command_failed', words);
  };

  const run = (
    argv: readonly string[],
    input: string,
  ): { stdout?: string; stderr?: string; exitCode?: number } => {
    const [program, verb, ...rest] = argv;
    const line = argv.join(' ');
    if (program === 'losetup' && verb === '--list') {
      if (line.startsWith('losetup --list --noheadings --raw --output BACK-INO /dev/loop'))
        return { stdout: loops.has(rest.at(-1)!) ? `${inodes.get(rest.at(-1)!)}\n` : '' };
      if (!line.startsWith('losetup --list --noheadings --raw --output NAME --associated /'))
        refuse(`? ${line}`);
      const inode = statSync(rest.at(-1)!, { throwIfNoEntry: false })?.ino;
      const mine = [...loops.keys()].filter((device) => inodes.get(device) === inode);
      return { stdout: mine.map((device) => `${device}\n`).join('') };
    }
    if (program === 'losetup' && verb === '--find') return { stdout: `${addLoop(rest.at(-1)!)}\n` };
    if (program === 'losetup' && verb === '--detach') {
      if (isHeld(rest[0]!)) refuse(`losetup: ${rest[0]}: detach failed: Device or resource busy`);
      if (!loops.delete(rest[0]!)) refuse(`losetup: ${rest[0]}: No such device`);
      return {};
    }
    if (program === 'dmsetup' && verb === 'create') {
      if (mappings.has(rest[0]!))
        refuse(`device-mapper: create ioctl on ${rest[0]} failed: Device or resource busy`);
      for (const device of input.match(/\/dev\/\S+/g) ?? []) {
        const isThere =
          loops.has(device) || [...mappings.keys()].some((name) => device === `/dev/dm-${minorOf(name)}`);
        if (!isThere) refuse(`device-mapper: reload ioctl on ${rest[0]} failed: No such file or directory`);
      }
      mappings.set(rest[0]!, input);
      minors.set(rest[0]!, Math.max(-1, ...minors.values()) + 1);
      return {};
    }
    if (line.startsWith('dmsetup info --columns --noheadings --options minor '))
      return { stdout: `${minorOf(rest.at(-1)!)}\n` };
    if (program === 'dmsetup' && verb === 'info')
      return mappings.has(rest[0]!) ? {} : { exitCode: 1, stderr: 'Device does not exist.' };
    if (program === 'dmsetup' && verb === 'status')
      return { stdout: `0 131072 snapshot ${thrownAway.has(rest[0]!) ? 'Invalid' : '16/131072 16'}\n` };
    if (program === 'dmsetup' && verb === 'remove') {
      if (isBusy(rest[0]!) || isHeld(`/dev/dm-${minorOf(rest[0]!)}`))
        refuse(`device-mapper: remove ioctl on ${rest[0]} failed: Device or resource busy`);
      mappings.delete(rest[0]!);
      return {};
    }
    if (line === 'udevadm control --reload') return {};
    return refuse(`Unknown command: ${line}`);
  };

  const exec: Exec = async (argv, options) => {
    commands.push(argv.join(' '));
    const fails = failing !== undefined && --failing.left < 0;
    const dies = (): never => {
      if (!failing!.isLast) failing = undefined;
      return refuse('told to fail');
    };
    if (fails && !failing!.isDone) return dies();
    const { stdout = '', stderr = '', exitCode = 0 } = run(argv, String(options?.input ?? ''));
    if (fails) return dies();
    return { exitCode, stdout: Buffer.from(stdout), stderr };
  };
  return {
    exec,
    commands,
    loops,
    mappings,
    addForeignLoop: addLoop,
    failAt: (left, how) => {
      failing = { left, ...how };
    },
    keepBusy: (name, attempts) => void busy.set(name, attempts),
    throwAway: (name) => void thrownAway.add(name),
  };
}
