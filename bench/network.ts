/**
 * TCP between a host and a guest behind a bridge of ours, both ways, with our rules, beside the same QEMU and guest on a bridge and a
 * tap made by hand, without any. Each is in network namespaces of its own, and both run all the time: what one takes,
 * the other's rounds feel too. It takes root.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openBanger, programArgv } from '../test/support/banger.ts';
import { openNetworkLab, type NetworkLab } from '../test/support/network-lab.ts';
import { bootRaw, median, recipeOf } from './raw-guest.ts';

const rounds = Number(process.argv[2] ?? 15);
const megabytes = 100;
const least = 0.95;
const [sinkPort, sourcePort] = [7000, 7001];
/** A transfer that takes longer hangs. */
const deadlineMs = 60_000;

process.chdir(resolve(import.meta.dirname, '..'));
main().catch((error: unknown) => {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});

interface Vm {
  readonly id: string;
  readonly address: string;
  readonly hostPublicKey: string;
}

async function main(): Promise<void> {
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error('usage: bench/network.sh [ROUNDS]');
  const work = mkdtempSync(join(tmpdir(), 'bn-'));
  using ours = openNetworkLab();
  using theirs = openNetworkLab();
  try {
    const program = join(work, 'banger-in-lab');
    const words = [...inside(ours), ...programArgv('dist/banger')].map((word) => `'${word}'`).join(' ');
    writeFileSync(program, `#!/bin/sh\nexec ${words} "$@"\n`);
    chmodSync(program, 0o755);
    await using banger = openBanger(undefined, program);
    await banger.ok(['vm', 'create', '--name', 'bench', '--network', 'bridge']);
    await banger.guest('bench', `sh -c '${server}' </dev/null >/dev/null 2>&1 &`);
    const vm = await banger.json<Vm>('vm', 'show', 'bench');
    const recipe = recipeOf(vm, join(banger.home, 'state/ssh/id_ed25519'));
    bridgeByHand(theirs, recipe.argv, vm);
    const raw = await bootRaw({ ...recipe, prefix: inside(theirs) }, work, 'raw');
    try {
      await raw.run(`sh -c '${server}' </dev/null >/dev/null 2>&1 &`);
      await measure(vm.address, { ours, theirs });
    } finally {
      await raw.end();
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** One connection after the other in, and a file out: the guest's nc sends a hundred times slower than a link takes. */
const server = `mkdir -p /tmp/bench && head -c ${megabytes}000000 /dev/zero >/tmp/bench/zeros && httpd -p ${sourcePort} -h /tmp/bench
while :; do nc -l -p ${sinkPort} </dev/null >/dev/null; done`;

function inside({ host }: NetworkLab): string[] {
  return ['ip', 'netns', 'exec', host];
}

/** The tap that a QEMU is told to open, on a bridge with the address of the guest's gateway, and nothing else. */
function bridgeByHand({ host }: NetworkLab, argv: readonly string[], { address }: Vm): void {
  const tap = argv.map((word) => /^tap,.*ifname=([^,]+)/.exec(word)?.[1]).find(Boolean);
  if (tap === undefined) throw new Error('the VM has no tap');
  const ip = (...words: string[]): unknown => execFileSync('ip', ['-n', host, ...words]);
  ip('link', 'add', 'by-hand', 'type', 'bridge', 'forward_delay', '0', 'stp_state', '0');
  ip('address', 'add', `${address.replace(/\d+$/, '1')}/24`, 'dev', 'by-hand');
  ip('link', 'set', 'by-hand', 'up');
  ip('tuntap', 'add', 'dev', tap, 'mode', 'tap');
  ip('link', 'set', tap, 'master', 'by-hand', 'up');
}

async function measure(
  address: string,
  labs: Readonly<Record<'ours' | 'theirs', NetworkLab>>,
): Promise<void> {
  await compare('TCP host to guest', labs, sendingCode(address));
  await compare('TCP guest to host', labs, receivingCode(address));
}

/** `code` carries everything once, and prints in how many seconds, or what was left. */
async function compare(
  what: string,
  labs: Readonly<Record<'ours' | 'theirs', NetworkLab>>,
  code: string,
): Promise<void> {
  const seconds = { ours: [] as number[], theirs: [] as number[] };
  for (let round = 1; round <= rounds; round++) {
    for (const who of ['ours', 'theirs'] as const) seconds[who].push(await carry(labs[who], code));
  }
  const ratio = median(seconds.theirs) / median(seconds.ours);
  const speed = (times: readonly number[]): string => `${(megabytes / median(times)).toFixed(1)} MB/s`;
  process.stderr.write(`${what}: ${speed(seconds.ours)}, by hand ${speed(seconds.theirs)}\n`);
  process.stdout.write(
    `${`${what}, beside a tap made by hand`.padEnd(58)}${ratio.toFixed(2).padStart(8)}  (wanted: >= ${least})\n`,
  );
  if (ratio < least) process.exitCode = 1;
}

/** From the connection to its end, when the other side has all. */
function sendingCode(address: string): string {
  return `
const socket = require('node:net').connect({ host: '${address}', port: ${sinkPort}, allowHalfOpen: true });
const piece = Buffer.alloc(1e6);
let began, left = ${megabytes};
const next = () => {
  if (left-- === 0) return socket.end();
  socket.write(piece) ? setImmediate(next) : socket.once('drain', next);
};
socket.on('connect', () => { began = performance.now(); next(); });
${watched('socket.on(`close`, () => tell(left + 1));')}
socket.resume();`;
}

/** From the connection until all has arrived, whether or not the other side hangs up then. */
function receivingCode(address: string): string {
  return `
const socket = require('node:net').connect({ host: '${address}', port: ${sourcePort} });
let began, left = ${megabytes}e6;
socket.on('connect', () => { began = performance.now(); socket.write('GET /zeros HTTP/1.0\\r\\n\\r\\n'); });
socket.on('data', (piece) => { left -= piece.length; if (left <= 0) tell(0); });
${watched('socket.on(`close`, () => tell(left / 1e6));')}`;
}

function watched(atEnd: string): string {
  return `
const tell = (left) => { console.log(JSON.stringify({ seconds: (performance.now() - began) / 1000, left })); process.exit(); };
setTimeout(() => tell(left / 1e6), ${deadlineMs});
socket.on('error', (error) => { console.log(error.code); process.exit(); });
${atEnd}`;
}

/** Seconds that it took. */
async function carry(lab: NetworkLab, code: string): Promise<number> {
  for (let attempt = 1; attempt <= 100; attempt++) {
    const said = lab.node(code);
    // Between two connections nobody listens.
    if (said === 'ECONNREFUSED') {
      await sleep(100);
      continue;
    }
    const { seconds, left } = JSON.parse(said) as { seconds: number; left: number };
    if (left !== 0) throw new Error(`it ended with ${left} MB to go, after ${seconds.toFixed(0)} s`);
    return seconds;
  }
  throw new Error('the guest does not listen');
}
