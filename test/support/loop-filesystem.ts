import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeShortTempDirectory } from './banger.ts';

/** Of what XFS makes at least. It takes no space until it is used. */
const bytes = 400 * 1024 * 1024;

export interface LoopFilesystem {
  /** What was not flushed is lost; it is mounted again in the same place */
  cutPower(): void;
}

/**
 * Runs a test on a filesystem of a kind, in a file, which goes afterwards. Skipped, saying why, where that cannot be
 * made or mounted.
 */
export async function withLoopFilesystem(
  context: { skip(note: string): void },
  kind: 'xfs' | 'btrfs' | 'ext4',
  test: (directory: string, filesystem: LoopFilesystem) => Promise<void>,
): Promise<void> {
  if (process.getuid!() !== 0) return context.skip(`needs root, to mount ${kind}`);
  const root = makeShortTempDirectory();
  const file = join(root, 'image');
  const place = join(root, kind);
  mkdirSync(place);
  writeFileSync(file, '');
  truncateSync(file, bytes);
  try {
    const made = spawnSync(`mkfs.${kind}`, ['-q', file], { encoding: 'utf8' });
    if (made.status !== 0) return context.skip(`no ${kind} can be made here: ${made.stderr || made.error}`);
    const mounted = spawnSync('mount', ['-o', 'loop', file, place], { encoding: 'utf8' });
    if (mounted.status !== 0) return context.skip(`no ${kind} can be mounted here: ${mounted.stderr}`);
    const cutPower = (): void => {
      execFileSync('xfs_io', ['-x', '-c', 'shutdown', place]);
      execFileSync('umount', [place]);
      // Who has started in a mount namespace of its own a moment ago may still have it mounted there.
      const isFree = `until [ -z "$(losetup --noheadings --associated '${file}')" ]; do sleep 0.02; done`;
      execFileSync('sh', ['-c', isFree], { timeout: 30_000 });
      execFileSync('mount', ['-o', 'loop', file, place]);
    };
    try {
      await test(place, { cutPower });
    } finally {
      execFileSync('umount', ['-l', place]);
    }
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}
