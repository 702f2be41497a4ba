import { readFile } from 'node:fs/promises';
import { isAlive, type ProcessIdentity } from './process.ts';

/** What a process has used since its start, and what it holds now. */
export interface ProcessUsage {
  readonly cpuSeconds: number;
  readonly memoryBytes: number;
  /** Bytes that went to and from storage, caches left out; absent when the kernel does not count them */
  readonly readBytes?: number;
  readonly writeBytes?: number;
}

/** USER_HZ: what the kernel counts time in towards programs, on every Linux that we run on. */
const ticksPerSecond = 100;

/** Reads proc(5). Undefined when the process has gone. */
export async function readProcessUsage(identity: ProcessIdentity): Promise<ProcessUsage | undefined> {
  const directory = `/proc/${identity.pid}`;
  const [stat, status, io] = await Promise.all(
    ['stat', 'status', 'io'].map((name) => readFile(`${directory}/${name}`, 'utf8').catch(() => '')),
  );
  // Asked after reading: these were the numbers of exactly this process.
  if (!stat || !status || !isAlive(identity)) return undefined;
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return {
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / ticksPerSecond,
    memoryBytes: (numberAfter(status, 'VmRSS') ?? 0) * 1024,
    readBytes: numberAfter(io ?? '', 'read_bytes'),
    writeBytes: numberAfter(io ?? '', 'write_bytes'),
  };
}

function numberAfter(text: string, name: string): number | undefined {
  const found = new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1];
  return found === undefined ? undefined : Number(found);
}
