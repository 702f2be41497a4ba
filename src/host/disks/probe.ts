import { stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError, errnoOf, errorText } from '../../errors.ts';
import { exec as realExec, type Exec } from '../exec.ts';
import { syncFile } from '../files.ts';
import { dmSnapshot } from './dm-snapshot.ts';
import { makeTrialPlace, removeTrialPlace, type TrialPlace } from '../trial-place.ts';
import { isNoReflink, shareBlocks } from './raw-files.ts';

/** Whether a way to make disks works at a place, found out by doing it. */
export interface MethodVerdict {
  readonly works: boolean;
  /** One phrase */
  readonly reason: string;
}

const works: MethodVerdict = { works: true, reason: 'works' };
const probeBytes = 1024 * 1024;

/** What was found to work, remembered for each filesystem as long as we live. */
export class DiskProbes {
  readonly #exec: Exec;
  readonly #known = new Map<string, Promise<MethodVerdict>>();

  constructor(exec: Exec) {
    this.#exec = exec;
  }

  /** Whether files in a directory can share their blocks; or those of a file of its filesystem, asked each time */
  reflink(directory: string, from?: string): Promise<MethodVerdict> {
    if (from !== undefined) return probeReflink(directory, { from });
    return this.#ask('reflink', directory, () => probeReflink(directory));
  }

  dmSnapshot(directory: string): Promise<MethodVerdict> {
    return this.#ask('dm-snapshot', directory, () => probeDmSnapshot(this.#exec, directory));
  }

  async #ask(name: string, directory: string, probe: () => Promise<MethodVerdict>): Promise<MethodVerdict> {
    const key = `${name} ${(await stat(directory)).dev}`;
    const verdict = this.#known.get(key) ?? probe();
    this.#known.set(key, verdict);
    const forget = (): void => void this.#known.delete(key);
    // What is missing, a module of the kernel or room, may be there the next time.
    verdict.then(({ works: doesWork }) => doesWork || forget(), forget);
    return verdict;
  }
}

/**
 * Shares blocks in a directory of its own, which it removes: one of its own, or all of `from`. On btrfs a file without
 * checksums (`chattr +C`, as is advised for disks of VMs) shares none with one that has some.
 */
export async function probeReflink(
  directory: string,
  { from, share = shareBlocks }: { readonly from?: string; readonly share?: typeof shareBlocks } = {},
): Promise<MethodVerdict> {
  return inOwnPlace(realExec, directory, async ({ directory: own }) => {
    const source = from ?? join(own, 'from');
    try {
      if (from === undefined) {
        await writeFile(source, Buffer.alloc(4096, 1));
        await syncFile(source);
      }
      await share(source, join(own, 'to'));
      return works;
    } catch (error) {
      if (errnoOf(error) === 'EAGAIN')
        return { works: false, reason: 'this filesystem is slow to share blocks' };
      if (!isNoReflink(error)) throw error;
      const what = from === undefined ? 'has no reflinks' : 'shares no blocks of the image';
      return { works: false, reason: `this filesystem ${what}` };
    }
  });
}

/** Makes a snapshot of a megabyte and takes it down again. */
export async function probeDmSnapshot(exec: Exec, directory: string): Promise<MethodVerdict> {
  if (process.getuid!() !== 0) return { works: false, reason: 'needs root' };
  return inOwnPlace(exec, directory, async ({ directory: own, id }) => {
    const disk = {
      id,
      path: join(own, 'changes'),
      backing: join(own, 'origin'),
      imageBytes: probeBytes,
      sizeBytes: 2 * probeBytes,
    };
    const method = dmSnapshot(exec);
    try {
      await writeFile(disk.backing, '');
      await truncate(disk.backing, probeBytes);
      await method.create(disk, { signal: new AbortController().signal });
      await method.attach(disk);
      return works;
    } catch (error) {
      if (!(error instanceof BangerError)) throw error;
      return { works: false, reason: dmReason(error) };
    }
  });
}

function dmReason(error: BangerError): string {
  const words = errorText(error);
  if (error.code === 'host_unsupported') return words;
  if (/device-mapper driver|\/dev\/mapper\/control/.test(words)) return 'this kernel has no device-mapper';
  if (/unknown target type/i.test(words)) return 'this kernel has no dm-snapshot';
  return words.split('\n')[0]!;
}

async function inOwnPlace<T>(
  exec: Exec,
  parent: string,
  work: (place: TrialPlace) => Promise<T>,
): Promise<T> {
  const own = makeTrialPlace(parent, 'disk');
  try {
    return await work(own);
  } finally {
    await removeTrialPlace(exec, own.directory);
  }
}
