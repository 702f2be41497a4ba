/**
 * What a root disk costs by each method, until a VMM could open it. Each is made of the same image as a plain `cp` copies
 * just before, so that the machine's mood does not count: read the ratios. Disks are flushed before the clock stops, or
 * the page cache would be measured.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { diskMethodNames, type DiskMethodName } from '../src/host/disks/disk-method.ts';
import { diskMethod } from '../src/host/disks/methods.ts';
import { probeDmSnapshot, probeReflink } from '../src/host/disks/probe.ts';
import { exec } from '../src/host/exec.ts';

const mib = 1024 * 1024;
const images = [
  { name: '350 MB', dataMib: 350 },
  { name: '4 GB', dataMib: 4096 },
];
/** How much of a plain copy's time a disk may take that copies nothing: a program has to be started for it. */
const maxRatio = 0.5;
/** A copy keeps holes; the data itself is that of a plain copy. */
const maxCopyRatio = 1.6;
const maxSparseMib = 4;
/** Of 4 GB, where the disk is emulated. */
const copyTimeoutMs = 60 * 60 * 1000;

const [directory = tmpdir(), ...asked] = process.argv.slice(2);
const work = mkdtempSync(join(resolve(directory), 'banger-bench-disks-'));
const signal = new AbortController().signal;
const misses: string[] = [];

main()
  .catch((error: unknown) => {
    process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  })
  .finally(() => rmSync(work, { recursive: true, force: true }));

async function main(): Promise<void> {
  const unknown = asked.find((name) => !(diskMethodNames as readonly string[]).includes(name));
  if (unknown !== undefined)
    throw new Error(`"${unknown}" is no method; there are ${diskMethodNames.join(', ')}`);
  const methods = diskMethodNames.filter((name) => asked.length === 0 || asked.includes(name));
  const isElsewhere = methods.includes('reflink') && !(await probeReflink(work)).works;
  await measureAt(work, methods);
  if (isElsewhere) await onXfs((place) => measureAt(place, ['reflink']));
  await measureHoles();
  if (misses.length === 0) return;
  process.stdout.write(`missed: ${misses.join(', ')}\n`);
  process.exitCode = 1;
}

async function measureAt(place: string, methods: readonly DiskMethodName[]): Promise<void> {
  const usable = await usableAt(place, methods);
  for (const { name, dataMib } of images) {
    const backing = join(place, 'image');
    makeImage(backing, dataMib);
    const path = join(place, 'disk');
    for (const method of usable) {
      const plain = await time(place, () =>
        exec(['cp', '--reflink=never', '--sparse=never', backing, path], { timeoutMs: copyTimeoutMs }),
      );
      rmSync(path);
      const { size } = statSync(backing);
      const disk = { id: 'bench', path, backing, imageBytes: size, sizeBytes: size };
      const { create, attach, detach } = diskMethod(exec, method);
      const ours = await time(place, async () => {
        await create(disk, { signal });
        await attach(disk);
      });
      await detach(disk);
      rmSync(path);
      report(`${name} by ${method}`, { ours, plain, bound: method === 'copy' ? maxCopyRatio : maxRatio });
    }
    rmSync(backing);
  }
}

async function usableAt(place: string, methods: readonly DiskMethodName[]): Promise<DiskMethodName[]> {
  const verdicts = {
    reflink: await probeReflink(place),
    'dm-snapshot': await probeDmSnapshot(exec, place),
    qcow2: { works: true, reason: '' },
    copy: { works: true, reason: '' },
  };
  return diskMethodNames.filter((name) => {
    if (!methods.includes(name)) return false;
    const { works, reason } = verdicts[name];
    if (!works) process.stdout.write(`not measured in this place: ${name}: ${reason}\n`);
    return works;
  });
}

/** Until it is on the disk. */
async function time(place: string, task: () => Promise<unknown>): Promise<number> {
  execFileSync('sync', ['-f', place]);
  const began = performance.now();
  await task();
  execFileSync('sync', ['-f', place]);
  return (performance.now() - began) / 1000;
}

function report(title: string, { ours, plain, bound }: Record<'ours' | 'plain' | 'bound', number>): void {
  const ratio = ours / plain;
  process.stdout.write(
    `${title.padEnd(24)}${ours.toFixed(3).padStart(8)} s   cp ${plain.toFixed(3).padStart(8)} s   ratio ${ratio.toFixed(3)}  (wanted: <= ${bound})\n`,
  );
  if (ratio > bound) misses.push(title);
}

/** 10 GB with a megabyte of data at both ends. */
async function measureHoles(): Promise<void> {
  const backing = join(work, 'sparse');
  closeSync(openSync(backing, 'w'));
  truncateSync(backing, 10 * 1024 * mib);
  const file = openSync(backing, 'r+');
  for (const at of [0, 10 * 1024 * mib - mib]) writeSync(file, Buffer.alloc(mib, 'x'), 0, mib, at);
  closeSync(file);
  const path = join(work, 'disk');
  const sizeBytes = 10 * 1024 * mib;
  const disk = { id: 'bench', path, backing, imageBytes: sizeBytes, sizeBytes };
  const seconds = await time(work, () => diskMethod(exec, 'copy').create(disk, { signal }));
  const allocated = (statSync(path).blocks * 512) / mib;
  process.stdout.write(
    `${'10 GB of holes by copy'.padEnd(24)}${seconds.toFixed(3).padStart(8)} s   takes ${allocated.toFixed(1)} MiB  (wanted: <= ${maxSparseMib})\n`,
  );
  if (allocated > maxSparseMib) misses.push('holes');
}

/** Data that no filesystem could pack, and no hole in it. */
function makeImage(path: string, sizeMib: number): void {
  const block = execFileSync('head', ['-c', String(mib), '/dev/urandom'], { maxBuffer: 2 * mib });
  const file = openSync(path, 'w');
  for (let at = 0; at < sizeMib; at++) writeSync(file, block, 0, mib, at * mib);
  closeSync(file);
}

async function onXfs(measure: (place: string) => Promise<void>): Promise<void> {
  const file = join(work, 'xfs');
  const place = join(work, 'mounted');
  mkdirSync(place);
  closeSync(openSync(file, 'w'));
  truncateSync(file, 16 * 1024 * mib);
  const isMounted =
    spawnSync('mkfs.xfs', ['-q', file]).status === 0 &&
    spawnSync('mount', ['-o', 'loop', file, place]).status === 0;
  if (!isMounted) {
    process.stdout.write('not measured: reflink: no filesystem with reflinks can be mounted here\n');
    return;
  }
  try {
    await measure(place);
  } finally {
    execFileSync('umount', ['-l', place]);
  }
}
