/** Medians of interleaved runs: the machine drifts, so only numbers of one table can be compared. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

interface Contestant {
  readonly title: string;
  readonly argv: readonly [string, ...string[]];
  /** Largest ratio to the baseline that we want */
  readonly target?: number;
}

const warmUps = 2;
const runs = Number(process.argv[2] ?? 20);
const root = resolve(import.meta.dirname, '..');
const banger = join(root, 'dist/banger');

main();

function main(): void {
  if (!existsSync(banger)) fail('dist/banger is missing; make it with: npm run build');
  if (!Number.isInteger(runs) || runs < 1) fail('usage: bench/cli.sh [RUNS]');

  const home = mkdtempSync(join(tmpdir(), 'banger-bench-'));
  const env = { PATH: process.env['PATH'], HOME: home, BANGER_HOME: home };
  const contestants: readonly Contestant[] = [
    // This is the Node that dist/banger embeds.
    { title: 'node -e 0', argv: [process.execPath, '-e', '0'] },
    { title: 'banger version', argv: [banger, 'version'], target: 1.4 },
    { title: 'banger ps, engine running', argv: [banger, 'ps'], target: 1.9 },
  ];
  try {
    // Needs the engine, so it starts one.
    run([banger, 'image', 'list'], env);
    print(contestants, measure(contestants, env));
  } finally {
    spawnSync(banger, ['engine', 'stop'], { env, stdio: 'ignore' });
    rmSync(home, { recursive: true, force: true });
  }
}

function measure(contestants: readonly Contestant[], env: NodeJS.ProcessEnv): number[][] {
  const times: number[][] = contestants.map(() => []);
  for (let round = 0; round < warmUps + runs; round += 1) {
    for (const [index, { argv }] of contestants.entries()) {
      const elapsed = run(argv, env);
      if (round >= warmUps) times[index]!.push(elapsed);
    }
  }
  return times;
}

/** Milliseconds from spawn to exit. */
function run([program, ...args]: readonly [string, ...string[]], env: NodeJS.ProcessEnv): number {
  const began = performance.now();
  const { status } = spawnSync(program, args, { env, stdio: 'ignore' });
  const elapsed = performance.now() - began;
  if (status !== 0) throw new Error(`"${program} ${args.join(' ')}" exited with ${status}`);
  return elapsed;
}

function print(contestants: readonly Contestant[], times: readonly (readonly number[])[]): void {
  const baseline = median(times[0]!);
  const row = (...cells: readonly string[]): string =>
    cells.map((cell, index) => (index === 0 ? cell.padEnd(28) : cell.padStart(12))).join('');
  const lines = contestants.map(({ title, target }, index) => {
    const middle = median(times[index]!);
    return row(
      title,
      middle.toFixed(1),
      Math.min(...times[index]!).toFixed(1),
      (middle / baseline).toFixed(2),
      target === undefined ? '' : `<= ${target}`,
    );
  });
  process.stdout.write(`${[row('', 'median ms', 'least ms', 'ratio', 'target'), ...lines].join('\n')}\n`);
  process.stdout.write(`${runs} interleaved runs after ${warmUps} warm-ups, Node ${process.versions.node}\n`);
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function fail(message: string): never {
  process.stderr.write(`bench: ${message}\n`);
  process.exit(2);
}
