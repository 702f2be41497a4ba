/**
 * Workspaces: everything compared within one run and in one VM, so that the machine's mood does not count.
 *
 * The first prepare is `banger workspace prepare` as a user sees it, process start to exit. Beside it: the tree's files
 * as tar over OpenSSH's client, which sends neither a repository nor its history. The second prepare is the same
 * command after ten files were changed, which is after what was sent before is on the guest's disk. An export is beside
 * the guest's own `git diff --binary`, by the same client.
 *
 * What is compared follows each other in one round, in the other order in every second one; a result is the median of
 * the rounds' own ratios.
 */
import { spawnSync } from 'node:child_process';
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { openBanger } from '../test/support/banger.ts';
import { createRepo, type GitRepo } from '../test/support/git-repo.ts';
import { median } from './raw-guest.ts';

const rounds = Number(process.argv[2] ?? 3);
const sizes = process.argv.length > 3 ? process.argv.slice(3).map(Number) : [6_000, 60_000];
const changedFiles = 10;
const perDirectory = 30;

process.chdir(resolve(import.meta.dirname, '..'));
const work = mkdtempSync(join(tmpdir(), 'bw-'));
const misses: string[] = [];

main().catch((error: unknown) => {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});

async function main(): Promise<void> {
  if (![rounds, ...sizes].every((count) => Number.isInteger(count) && count > 0)) {
    throw new Error('usage: bench/workspace.sh [ROUNDS] [FILES...]');
  }
  await using banger = openBanger();
  try {
    await banger.ok(['vm', 'create', '--name', 'bench', '--image', 'base', '--memory', '1G']);
    const ssh = await sshCommand(banger);
    await timed(() => run(ssh('true')));
    for (const size of sizes) await measure(banger, ssh, size);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  if (misses.length === 0) return;
  process.stdout.write(`missed: ${misses.join(', ')}\n`);
  process.exitCode = 1;
}

type Banger = ReturnType<typeof openBanger>;
type Ssh = (script: string) => string[];

async function measure(banger: Banger, ssh: Ssh, size: number): Promise<void> {
  const repo = makeTree(size);
  const guestPath = `/root/tree-${size}`;
  const prepare = (): Promise<unknown> => banger.ok(['workspace', 'prepare', repo.path, '--vm', 'bench']);
  const times = { first: [], tar: [], second: [], export: [], diff: [] } as Record<string, number[]>;
  for (let round = 1; round <= rounds; round++) {
    await inTurns(
      round,
      async () => {
        await run(ssh('rm -rf /root/tar && mkdir /root/tar && sync'));
        times['tar']!.push(await timed(() => sendTar(repo.path, ssh('tar x -C /root/tar'))));
        await run(ssh('rm -rf /root/tar; sync'));
      },
      async () => {
        // What was sent before is gone, so that it is the first time again.
        await run(ssh(`rm -rf ${guestPath}; sync`));
        times['first']!.push(await timed(prepare));
      },
    );
    // What the first one has written is on the guest's disk by the time that anybody changes a file.
    await run(ssh('sync'));
    change(repo, size, round);
    times['second']!.push(await timed(prepare));

    await run(
      ssh(
        `cd ${guestPath} && for n in 0 1 2 3 4 5 6 7 8 9; do echo more >>dir/$n/$((n * ${perDirectory})).ts; done`,
      ),
    );
    const exported = join(work, 'exported.patch');
    const exportIt = ['workspace', 'export', repo.path, '--vm', 'bench', '-o', exported];
    await inTurns(
      round,
      async () => void times['export']!.push(await timed(() => banger.ok(exportIt))),
      async () =>
        void times['diff']!.push(
          await timed(() => run(ssh(`cd ${guestPath} && git diff --binary >/dev/null`))),
        ),
    );
    const line = Object.entries(times).map(([name, each]) => `${name} ${each.at(-1)!.toFixed(2)} s`);
    process.stderr.write(`${size} files, round ${round}: ${line.join(', ')}\n`);
  }
  const ratio = (one: string, other: string): number =>
    median(times[one]!.map((seconds, round) => seconds / times[other]![round]!));
  report(`${size} files: first prepare, beside tar over ssh`, ratio('first', 'tar'), { most: 1 });
  report(`${size} files: first prepare, beside the second`, ratio('first', 'second'), { least: 10 });
  report(`${size} files: export, beside git diff in the guest`, ratio('export', 'diff'), { most: 1.5 });
  await run(ssh(`rm -rf ${guestPath}`));
}

async function inTurns(round: number, one: () => Promise<void>, other: () => Promise<void>): Promise<void> {
  for (const task of round % 2 === 1 ? [one, other] : [other, one]) await task();
}

/** Prints a line of the result, and remembers a bound that does not hold. */
function report(
  title: string,
  value: number,
  { least = -Infinity, most = Infinity }: { readonly least?: number; readonly most?: number },
): void {
  const wanted = least === -Infinity ? `<= ${most}` : `>= ${least}`;
  process.stdout.write(`${title.padEnd(58)}${value.toFixed(2).padStart(8)}  (wanted: ${wanted})\n`);
  if (value < least || value > most) misses.push(title);
}

/** Text as programs are made of: much of a line is that of others, no two files are equal. */
function makeTree(size: number): GitRepo {
  const path = join(work, `tree-${size}`);
  const repo = createRepo(path);
  for (let index = 0; index < size; index++) {
    const directory = join(path, 'dir', String(Math.floor(index / perDirectory)));
    if (index % perDirectory === 0) mkdirSync(directory, { recursive: true });
    const lines = Array.from(
      { length: 1 + (index % 120) },
      (_, line) => `export const value${line} = compute(${(index * 7919 + line * 104_729) % 1_000_003});\n`,
    );
    writeFileSync(join(directory, `${index}.ts`), lines.join(''));
  }
  repo.commit('all of it');
  return repo;
}

function change(repo: GitRepo, size: number, round: number): void {
  const step = Math.floor(size / changedFiles);
  for (let count = 0; count < changedFiles; count++) {
    const index = count * step + 17;
    const file = join(repo.path, 'dir', String(Math.floor(index / perDirectory)), `${index}.ts`);
    appendFileSync(file, `export const round = ${round};\n`);
  }
}

async function sshCommand(banger: Banger): Promise<Ssh> {
  const vm = await banger.json<{ sshPort: number; hostPublicKey: string }>('vm', 'show', 'bench');
  const known = join(work, 'known_hosts');
  const [type, key] = vm.hostPublicKey.split(' ');
  writeFileSync(known, `[127.0.0.1]:${vm.sshPort} ${type} ${key}\n`);
  const options = [
    ...['-F', '/dev/null', '-p', String(vm.sshPort), '-i', join(banger.home, 'state/ssh/id_ed25519')],
    ...['-o', 'IdentitiesOnly=yes', '-o', `UserKnownHostsFile=${known}`, '-o', 'StrictHostKeyChecking=yes'],
  ];
  return (script) => ['ssh', ...options, 'root@127.0.0.1', script];
}

/** One shell has all three: Node would read along at the pipes between processes of its own, and take away from them. */
function sendTar(path: string, ssh: readonly string[]): Promise<void> {
  const script = 'cd "$1" && shift && git ls-files -z | tar c --null -T - | "$@"';
  return run(['bash', '-o', 'pipefail', '-c', script, 'bench', path, ...ssh]);
}

async function run([program, ...args]: string[]): Promise<void> {
  const { status, stderr } = spawnSync(program!, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  if (status !== 0) throw new Error(`${program} exited with ${status}: ${stderr.toString().trim()}`);
}

async function timed(task: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await task();
  return (performance.now() - began) / 1000;
}
