import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { collect, openBanger, smallVms } from '../support/banger.ts';
import { putImage, startRegistry, type FakeRegistry } from '../support/registry.ts';
import { file, tarOf } from '../support/tar-builder.ts';

/**
 * What a power cut would leave is what was flushed, so that the kernel is asked what was, and when: every call of the
 * engine, and of the programs that it runs, as strace saw it.
 */
const banger = openBanger();
const log = join(banger.home, 'strace.log');
const state = join(banger.home, 'state');
let registry: FakeRegistry;
let calls: readonly Call[];

interface Call {
  readonly name: string;
  /** Of a write or a flush, the file; of a rename, from where */
  readonly path: string;
  readonly to?: string;
}

beforeAll(async () => {
  registry = await startRegistry();
  const layers = [tarOf([file('etc/os-release', 'ID=test\n'), file('blob', 'x'.repeat(300_000))])];
  putImage(registry, 'test', { tag: 'v1', layers: layers.map((layer) => layer.toString('latin1')) });
  const traced = 'trace=rename,renameat,renameat2,fsync,fdatasync,write,writev,pwrite64,pwritev,ftruncate';
  // It follows the engine, which this command starts, and ends with it.
  const strace = spawn(
    'strace',
    ['-f', '--seccomp-bpf', '-y', '-s', '0', '-e', traced, '-o', log, ...banger.argv, 'ps'],
    { cwd: banger.home, env: banger.env, stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const ended = collect(strace);
  const isUp = async (): Promise<boolean> => existsSync(log) && (await banger.enginePid()) !== undefined;
  while (!(await isUp())) if (strace.exitCode !== null) throw new Error((await ended).stderr);
  await banger.ok(['image', 'pull', `${registry.host}/test:v1`]);
  await banger.ok(['vm', 'create', '--no-start', '--image', `${registry.host}/test:v1`, '--name', 'web']);
  await banger.ok(['vm', 'set', 'web', '--memory', '300M']);
  banger.configure(`${smallVms}[disk]\nmethod = "copy"\n`);
  await banger.ok(['vm', 'create', '--no-start', '--image', `${registry.host}/test:v1`, '--name', 'whole']);
  await banger.ok(['engine', 'stop']);
  expect(await ended).toMatchObject({ code: 0 });
  calls = parse(readFileSync(log, 'utf8'));
});
afterAll(async () => {
  await registry[Symbol.asyncDispose]();
  await banger[Symbol.asyncDispose]();
});

/** Calls that succeeded, in the order in which they ended. */
function parse(text: string): Call[] {
  const begun = new Map<string, string>();
  return text.split('\n').flatMap((line) => {
    const [, pid = '', words = ''] = /^(\d+) +(.*)$/.exec(line) ?? [];
    if (words.endsWith('<unfinished ...>')) {
      begun.set(pid, words.replace(/ *<unfinished \.\.\.>$/, ''));
      return [];
    }
    const whole = words.replace(/^<\.\.\. \w+ resumed>/, () => begun.get(pid) ?? '');
    const rename = /^(renameat2?|rename)\(.*?"([^"]*)", .*?"([^"]*)".*\) += 0$/.exec(whole);
    if (rename) return [{ name: 'rename', path: rename[2]!, to: rename[3]! }];
    const other = /^(\w+)\(\d+<([^>]*)>.*\) += \d+$/.exec(whole);
    return other ? [{ name: other[1]!, path: other[2]! }] : [];
  });
}

const isFlush = ({ name }: Call): boolean => name === 'fsync' || name === 'fdatasync';
const isWrite = (call: Call): boolean => call.name !== 'rename' && !isFlush(call);
const isBelow = (path: string, place: string): boolean => path === place || path.startsWith(`${place}/`);

/** Files below a place, by the names they have then, that were written to before a call and not flushed since. */
function unflushed(place: string, before: number): string[] {
  const dirty = new Set<string>();
  for (const { name, path, to } of calls.slice(0, before)) {
    if (to !== undefined) {
      for (const file of [...dirty].filter((file) => isBelow(file, path))) {
        dirty.delete(file);
        dirty.add(`${to}${file.slice(path.length)}`);
      }
    } else if (name === 'fsync' || name === 'fdatasync') dirty.delete(path);
    else dirty.add(path);
  }
  return [...dirty].filter((file) => isBelow(file, place));
}

/** Renames to where something is looked for. What is under construction has no such name yet. */
const publications = (): { readonly index: number; readonly path: string; readonly to: string }[] =>
  calls.flatMap(({ path, to }, index) =>
    to && isBelow(to, banger.home) && !to.includes('/.staging/') ? [{ index, path, to }] : [],
  );

test('F17: what gets its name is flushed before it has it: images, blobs, handles, assets', () => {
  const names = publications().map(({ to }) => to);
  for (const expected of [/blobs\/.*[0-9a-f]{64}$/, /images\/[0-9a-f]{64}$/, /vms\/[0-9a-f]{32}\/host_key$/])
    expect(names).toContainEqual(expect.stringMatching(expected));
  for (const { index, path, to } of publications()) expect(unflushed(path, index), to).toEqual([]);
});

test('F17: a name is flushed itself, before the database tells of it', () => {
  const ofState = publications().filter(({ to }) => isBelow(to, state));
  expect(ofState.length).toBeGreaterThan(2);
  for (const { index, to } of ofState) {
    const after = calls.slice(index + 1);
    const flushed = after.findIndex((call) => isFlush(call) && call.path === dirname(to));
    expect(flushed, `${to}: its directory is flushed`).toBeGreaterThanOrEqual(0);
    const told = after.findIndex((call) => isWrite(call) && /\.db-wal$/.test(call.path));
    if (told >= 0) expect(flushed, `${to}: before the next commit`).toBeLessThan(told);
  }
});

test('F17: the database is flushed with every commit, and a new disk before its VM is told of', () => {
  const wal = join(state, 'banger.db-wal');
  const ofWal = calls.filter(({ path }) => path === wal);
  // Several writes make a commit; none is followed by silence.
  expect(ofWal.filter(isFlush).length).toBeGreaterThan(5);
  expect(unflushed(wal, calls.length)).toEqual([]);
  for (const name of ['disk.qcow2', 'disk.raw']) {
    const disk = calls.findLastIndex((call) => call.path.endsWith(`/${name}`) && isWrite(call));
    expect(disk, name).toBeGreaterThanOrEqual(0);
    const told = calls.findIndex(({ path }, index) => index > disk && path === wal);
    expect(told, name).toBeGreaterThan(disk);
    expect(unflushed(dirname(calls[disk]!.path), told), name).toEqual([]);
  }
});
