/**
 * disks.ts where device-mapper is, which few machines have on which this is built: in the tests' lab VM, as root. All of
 * that is emulated: read the ratios.
 */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { openLab, type Lab } from '../test/support/lab.ts';

const asked = process.argv.slice(2);
const methods = asked.length > 0 ? asked : ['dm-snapshot'];

process.chdir(resolve(import.meta.dirname, '..'));
main().catch((error: unknown) => {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});

async function main(): Promise<void> {
  await using lab = await openLab();
  await sendBench(lab);
  const words = ['/srv/node', '/srv/banger/bench/disks.ts', '/srv', ...methods];
  const bench = lab.outer.start(['vm', 'exec', 'lab', '--', ...words]);
  bench.stdout?.pipe(process.stdout);
  bench.stderr?.pipe(process.stderr);
  const [code] = (await once(bench, 'close')) as [number | null];
  if (code !== 0) process.exitCode = 1;
}

/** What it is made of, and this Node. */
async function sendBench({ outer, root }: Lab): Promise<void> {
  const work = mkdtempSync(join(tmpdir(), 'banger-bench-'));
  try {
    const parts = join(work, 'parts.tar');
    execFileSync('tar', ['--transform=s,^,banger/,', '-cf', parts, 'bench', 'src', 'package.json']);
    await outer.ok(['vm', 'cp', parts, 'lab:/srv/parts.tar']);
    await outer.ok(['vm', 'cp', process.execPath, 'lab:/srv/node']);
    await root('cd /srv && tar -xf parts.tar && rm parts.tar');
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
