import { lstat, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod/mini';
import { errnoOf } from '../../errors.ts';
import { isAlive } from '../process.ts';
import { pass, sizeText, warn, type CheckResult } from './check.ts';

/** Something that is there and that the database has lost. */
const schema = z.object({
  kind: z.enum(['vm', 'image', 'kernel']),
  /** Its directory */
  path: z.string(),
  /** Its VMM, when that ran */
  process: z.optional(z.object({ pid: z.int(), startTime: z.string(), bootId: z.string() })),
});
export type Unowned = z.output<typeof schema>;

const subject = { id: 'unowned', title: 'Unowned state' };
const kinds = { vm: 'VM', image: 'image', kernel: 'kernel' } as const;

/** What an engine, when it started, found in the state directory and not in its database: nothing of it is removed. */
export async function checkUnowned(noteFile: string): Promise<CheckResult> {
  const found = await Promise.all((await readNote(noteFile)).map(look));
  const there = found.filter((one) => one !== undefined);
  if (there.length === 0) return pass(subject, 'nothing that the database does not know');
  const list = there.map(({ kind, path, bytes, pid }) => {
    const runs = pid === undefined ? '' : `, runs as process ${pid}`;
    return `${kinds[kind]} at ${path} (${sizeText(bytes)}${runs})`;
  });
  const rescue = there.find(({ command }) => command !== undefined)?.command;
  const pids = there.flatMap(({ pid }) => (pid === undefined ? [] : [pid]));
  const ways = [
    'Put a newer copy of the database back',
    ...(rescue === undefined
      ? []
      : [
          `take a disk out as an image${pids.length > 0 ? `, its VMM ended first (kill ${pids.join(' ')})` : ''}: ${rescue}`,
        ]),
    `or remove what is not wanted: rm -r ${there.map(({ path }) => path).join(' ')}`,
  ];
  return warn(subject, `the database does not know: ${list.join('; ')}`, ways.join('; '));
}

async function readNote(file: string): Promise<readonly Unowned[]> {
  try {
    const parsed = z.array(schema).safeParse(JSON.parse(await readFile(file, 'utf8')));
    return parsed.success ? parsed.data : [];
  } catch (error) {
    // One that was cut short is written anew by the next engine.
    if (errnoOf(error) === 'ENOENT' || error instanceof SyntaxError) return [];
    throw error;
  }
}

/** Undefined when somebody has removed it since. */
async function look({ kind, path, process }: Unowned): Promise<
  | (Pick<Unowned, 'kind' | 'path'> & {
      readonly bytes: number;
      readonly pid?: number;
      readonly command?: string;
    })
  | undefined
> {
  const names = await readdir(path).catch(() => undefined);
  if (!names) return undefined;
  let bytes = 0;
  for (const name of names)
    bytes += ((await lstat(join(path, name)).catch(() => undefined))?.blocks ?? 0) * 512;
  const pid = process && isAlive(process) ? process.pid : undefined;
  return { kind, path, bytes, pid, command: rescueCommand(path, names) };
}

/** A disk is one ext4 filesystem, which an image can be made of. A snapshot is nothing without its device. */
function rescueCommand(directory: string, names: readonly string[]): string | undefined {
  const register = 'banger image register lost.ext4 --name lost';
  if (names.includes('disk.qcow2'))
    return `qemu-img convert -O raw ${join(directory, 'disk.qcow2')} lost.ext4 && ${register}`;
  if (names.includes('disk.raw'))
    return `cp --sparse=always ${join(directory, 'disk.raw')} lost.ext4 && ${register}`;
  return undefined;
}
