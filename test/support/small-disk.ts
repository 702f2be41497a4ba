import { execFileSync } from 'node:child_process';
import { closeSync, openSync, rmdirSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { makeShortTempDirectory } from './banger.ts';

/** A small filesystem of its own. */
export interface SmallDisk {
  readonly path: string;
  /** Takes all room that is left */
  fill(): void;
  makeRoom(): void;
  /** Mount options, such as `ro` or `size=1g` */
  remount(options: string): void;
}

/** Runs a test on a filesystem in memory, which goes afterwards. Skipped, saying why, without root. */
export async function withSmallDisk(
  context: { skip(note: string): void },
  size: string,
  test: (disk: SmallDisk) => Promise<void> | void,
): Promise<void> {
  if (process.getuid!() !== 0) return context.skip('needs root, to mount a small filesystem');
  const path = makeShortTempDirectory();
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=700`, 'tmpfs', path]);
  const ballast = join(path, 'ballast');
  const remount = (options: string): void =>
    void execFileSync('mount', ['-o', `remount,${options}`, path], { stdio: 'ignore' });
  try {
    await test({
      path,
      fill: () => fill(ballast),
      makeRoom: () => rmSync(ballast, { force: true }),
      remount,
    });
  } finally {
    execFileSync('umount', ['-l', path]);
    rmdirSync(path);
  }
}

function fill(ballast: string): void {
  const file = openSync(ballast, 'a');
  try {
    for (const bytes of [Buffer.alloc(64 * 1024), Buffer.alloc(512)]) writeAll(file, bytes);
  } finally {
    closeSync(file);
  }
}

function writeAll(file: number, bytes: Buffer): void {
  try {
    for (;;) if (writeSync(file, bytes) < bytes.length) return;
  } catch {
    // It is full, which was the purpose.
  }
}
